"""Four-bit weights: matrices of quantised files, multiplied as the file has them where a step has few tokens.

Such a step takes the time in which its weights are read, and these are a third of the bytes. Q4_0, Q4_1 and Q4_K of
GGUF give each group of 32 numbers of a row a scale and an offset, so that they lie on a grid of at most 16 levels. The
numbers of a checkpoint that was made from such a file still do, up to their rounding. The grid is found in them: how a
file names and orders its tensors does not matter.
"""

from dataclasses import dataclass
from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor

GROUP = 32
"""Numbers of a row that share a scale and an offset."""
TOP, LEAST_TOP = 15, 8
"""The highest level of a grid, and the lowest that a group's own highest is taken to be."""
MIDDLE = 8
"""The level at which torch's kernel adds the offset alone."""
OUTPUTS = 16
"""What the kernel takes is a multiple of so many outputs."""
FEW_ROWS = 4
"""So many rows the kernel multiplies together; more are faster in bfloat16."""
TOLERANCE = 1 / 64
"""By how much of the largest number in its group any may differ from the bfloat16 one, two roundings to bfloat16."""


@dataclass(frozen=True, eq=False)
class FourBitWeights:
    """A matrix ``[outputs, inputs]`` as torch's kernel reads it."""

    levels: Tensor
    """Two to a byte, in the kernel's order."""
    scales: Float[Tensor, "groups outputs 2"]
    """The step between levels, and the number at ``MIDDLE``."""

    @classmethod
    def of(cls, weight: Float[Tensor, "outputs inputs"]) -> Self | None:
        """``None`` where a number lies on no grid, or the kernel does not take such a matrix."""
        outputs, inputs = weight.shape
        if outputs % OUTPUTS or inputs % GROUP or _grid(weight[:1]) is None:
            return None
        grid = _grid(weight)
        if grid is None:
            return None
        levels, scales = grid
        packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(levels.view(outputs, inputs).to(torch.int32), 2)
        return cls(packed, scales.transpose(0, 1).contiguous())

    @property
    def nbytes(self) -> int:
        return self.levels.nbytes + self.scales.nbytes

    def multiply(self, states: Tensor, bias: Tensor | None) -> Tensor:
        """``states`` is ``[..., inputs]`` in bfloat16; sums are of float32."""
        rows = states.reshape(-1, states.shape[-1])
        product: Tensor = torch.ops.aten._weight_int4pack_mm_for_cpu(rows, self.levels, GROUP, self.scales)
        product = product.view(*states.shape[:-1], -1)
        return product if bias is None else product + bias


def _grid(weight: Tensor) -> tuple[Tensor, Tensor] | None:
    """The levels ``[outputs, groups, 32]``, and ``[outputs, groups, 2]`` scales; ``None`` where any number is off.

    A group reaches from its lowest to its highest number. Files of most types use all 16 levels in between; some groups
    of others reach less far.
    """
    groups = weight.float().view(-1, GROUP)
    levels, scales, fits = _levels(groups, TOP)
    rest = (~fits).nonzero()[:, 0]
    for top in range(TOP - 1, LEAST_TOP - 1, -1):
        if not len(rest):
            break
        of_rest, scales_of_rest, fits = _levels(groups[rest], top)
        levels[rest[fits]], scales[rest[fits]] = of_rest[fits], scales_of_rest[fits]
        rest = rest[~fits]
    return None if len(rest) else (levels.view(len(weight), -1, GROUP), scales.view(len(weight), -1, 2))


def _levels(groups: Tensor, top: int) -> tuple[Tensor, Tensor, Tensor]:
    """Levels and scales of groups whose highest number is of level ``top``, and which groups lie on such a grid."""
    lowest, highest = groups.aminmax(dim=1, keepdim=True)
    step = (highest - lowest) / top
    levels = ((groups - lowest) / step.where(step > 0, 1)).round_()
    scales = torch.cat([step, lowest + MIDDLE * step], 1).bfloat16()
    numbers = torch.addcmul(scales[:, 1:].float(), levels - MIDDLE, scales[:, :1].float())
    gaps = numbers.sub_(groups).abs_().amax(1)
    return levels, scales, gaps <= TOLERANCE * torch.maximum(lowest.abs(), highest.abs())[:, 0]
