"""A matrix that many others of few rows are multiplied by."""

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

FEW_ROWS = 4
"""With up to so many a product only reads the matrix, in whatever layout."""
MANY_ELEMENTS = 2**20
"""Of a matrix that no cache near a core holds."""


@dataclass(frozen=True, eq=False)
class ReusedMatrix:
    """``matrix``, laid out for oneDNN when the first product asks for it: torch would lay it out anew for each.

    On a CPU in float32, products of 15 rows with 4,096 × 1,200 take half of the time, and the layout that of three.
    """

    matrix: Float[Tensor, "m p"]

    def after(self, rows: Float[Tensor, "k m"]) -> Float[Tensor, "k p"]:
        """``rows @ matrix``."""
        if len(rows) <= FEW_ROWS or not self._can_be_packed:
            return rows @ self.matrix
        product: Tensor = torch.ops.mkldnn._linear_pointwise(rows, self._packed, None, "none", [], "")
        return product

    @property
    def _can_be_packed(self) -> bool:
        fits = self.matrix.device.type == "cpu" and self.matrix.dtype == torch.float32
        available = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")  # type: ignore[no-untyped-call]
        return fits and available and self.matrix.numel() >= MANY_ELEMENTS

    @cached_property
    def _packed(self) -> Tensor:
        packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(self.matrix.T, 16)
        return packed
