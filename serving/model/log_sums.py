"""Log sums: the logarithm of the sum of exponentials of logits, by which log-probabilities are told."""

import math

import torch
from jaxtyping import Float, Float32
from torch import Tensor

from serving.model.workspace import Workspace

AT_ONCE = 1 << 20
"""Logits that are summed at a time: 21 rows of 49,152, which stay near the processor."""
BLOCK = 256
LOG2_E = math.log2(math.e)
POWERS = Workspace()


def log_sum_exp(
    logits: Float[Tensor, "rows vocabulary"], largest: Float[Tensor, " rows"] | None = None
) -> Float32[Tensor, " rows"]:
    """Of each row, in nats; ``largest`` are the rows' largest logits where they are known.

    On a CPU a few rows at once. Powers of two, because torch computes them in a third of the time that exponentials
    take on processors of AMD.
    """
    if logits.device.type != "cpu":
        return logits.float().logsumexp(dim=-1)
    rows = max(1, AT_ONCE // logits.shape[1])
    values = POWERS.of((min(rows, len(logits)), logits.shape[1]), logits.device)
    found = logits.new_empty(len(logits), dtype=torch.float32)
    for first in range(0, len(logits), rows):
        some = slice(first, first + rows)
        given = logits[some]
        powers = values[: len(given)]
        wide = given if given.dtype == torch.float32 else powers.copy_(given)
        highest = wide.amax(dim=-1) if largest is None else largest[some].float()
        taken_off = highest * -LOG2_E  # rounded, but it is put back as it is
        torch.add(taken_off[:, None], wide, alpha=LOG2_E, out=powers)
        sums = _sums(powers.exp2_()).double()
        found[some] = (sums.log2_() - taken_off) / LOG2_E
    return found


def _sums(values: Float32[Tensor, "rows n"]) -> Float32[Tensor, " rows"]:
    """By blocks first: a row that is summed alone would be cut where its threads are, and have other bits."""
    whole = values.shape[1] // BLOCK * BLOCK
    blocks = values[:, :whole].reshape(len(values), whole // BLOCK, BLOCK).sum(dim=-1)
    return blocks.sum(dim=-1) + values[:, whole:].sum(dim=-1)
