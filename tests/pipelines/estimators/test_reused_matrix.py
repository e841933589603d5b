import pytest
import torch

from pipelines.estimators.reused_matrix import FEW_ROWS, MANY_ELEMENTS, ReusedMatrix

LARGE = (1024, MANY_ELEMENTS // 1024)


@pytest.fixture
def packed_shapes(monkeypatch):
    shapes, pack = [], torch.ops.mkldnn._reorder_linear_weight
    monkeypatch.setattr(
        torch.ops.mkldnn, "_reorder_linear_weight", lambda *given: shapes.append(given[0].shape) or pack(*given)
    )
    return shapes


@pytest.mark.parametrize("shape", [LARGE, (2048, 1500)])
@pytest.mark.parametrize("transposed", [False, True])
def test_products_are_exact_however_the_matrix_lies(shape, transposed, packed_shapes):
    matrix = torch.randn(shape[::-1]).T if transposed else torch.randn(shape)
    reused = ReusedMatrix(matrix)
    for rows in (1, FEW_ROWS, FEW_ROWS + 1, 15, 16, 33):
        left = torch.randn(rows, shape[0])
        exact = (left.double() @ matrix.double()).float()
        torch.testing.assert_close(reused.after(left), exact, atol=2e-3, rtol=1e-4)
    assert packed_shapes == [torch.Size(shape[::-1])]  # once


@pytest.mark.parametrize(
    "shape, dtype, rows", [(LARGE, torch.float64, 15), ((64, 64), torch.float32, 15), (LARGE, torch.float32, FEW_ROWS)]
)
def test_what_gains_nothing_is_not_laid_out_anew(shape, dtype, rows, packed_shapes):
    matrix, left = torch.randn(shape, dtype=dtype), torch.randn(rows, shape[0], dtype=dtype)
    assert torch.equal(ReusedMatrix(matrix).after(left), left @ matrix)
    assert not packed_shapes


def test_a_machine_without_onednn_multiplies_all_the_same(monkeypatch):
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    matrix, left = torch.randn(LARGE), torch.randn(15, LARGE[0])
    assert torch.equal(ReusedMatrix(matrix).after(left), left @ matrix)
