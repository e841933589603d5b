import sys
from types import ModuleType

import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits

from pipelines.estimators import parallel
from pipelines.estimators.parallel import map_on_cores
from tests.threads import threads_of_torch


def test_results_keep_order_and_threads_are_returned():
    with threads_of_torch(3):
        seen = map_on_cores(lambda piece: (piece, torch.get_num_threads()), range(20))
        assert seen == tuple((piece, 1) for piece in range(20))
        assert torch.get_num_threads() == 3


def test_a_result_does_not_depend_on_the_number_of_cores(rng):
    matrices = [torch.tensor(rng.normal(size=(300, 200))) for _ in range(6)]
    results = []
    for threads in (1, 2, 4):
        with threads_of_torch(threads):
            results.append(map_on_cores(lambda matrix: torch.linalg.eigvalsh(matrix.T @ matrix), matrices))
    for alone, other in zip(results[0], results[2], strict=True):
        assert torch.equal(alone, other)


def test_what_goes_wrong_in_a_piece_is_raised():
    before = torch.get_num_threads()
    with pytest.raises(ZeroDivisionError):
        map_on_cores(lambda piece: 1 / piece, [1, 0, 2])
    assert torch.get_num_threads() == before


def test_libraries_have_one_thread_and_theirs_again():
    def threads(_=None):
        return [library["num_threads"] for library in threadpool_info()]

    with threadpool_limits(2):
        before = threads()
        for _ in range(2):
            assert map_on_cores(threads, [0]) == ([1] * len(before),)
            assert threads() == before
    assert max(before) == 2


def test_libraries_are_looked_for_again_after_an_import(monkeypatch):
    looked, real = [], parallel.ThreadpoolController
    parallel._libraries.cache_clear()
    monkeypatch.setattr(parallel, "ThreadpoolController", lambda: looked.append(1) or real())
    map_on_cores(abs, [1])
    map_on_cores(abs, [1])
    first = len(looked)
    monkeypatch.setitem(sys.modules, "imported_after", ModuleType("imported_after"))
    map_on_cores(abs, [1])
    assert (first, len(looked)) == (1, 2)
