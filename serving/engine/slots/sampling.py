"""Sampling: one token per row of a step's logits. A row's token depends on its own logits and number alone."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64
from torch import Tensor
from torch.nn.functional import pad

BLOCK = 256
"""A running sum over the vocabulary is taken by blocks first: most of it need not be computed."""


def likeliest(logits: Float[Tensor, "rows vocabulary"]) -> tuple[list[int], list[bool]]:
    """The likeliest token of each row, and whether the row can be drawn from: it holds no NaN and no infinity.

    ``max`` because it gives both, NaN if there is any, and is several times faster than ``argmax`` on a CPU.
    """
    values, tokens = logits.max(dim=-1)
    return tokens.tolist(), values.isfinite().tolist()


def draw(
    logits: Float[Tensor, "rows vocabulary"],
    temperatures: Sequence[float],
    top_ps: Sequence[float],
    numbers: Sequence[float],
) -> list[int]:
    """One token a row: the one at which the cumulative probability passes the row's number from [0, 1)."""
    weights = logits.to(torch.float32, copy=True)  # one copy, changed in place: fresh memory costs more than the sums
    weights.sub_(weights.amax(dim=-1, keepdim=True)).div_(weights.new_tensor(temperatures)[:, None]).exp_()
    whole = torch.tensor(numbers, dtype=torch.float64, device=weights.device)
    tokens: list[int] = _passing(weights, whole).tolist()
    for row, (top_p, number) in enumerate(zip(top_ps, numbers, strict=True)):
        if top_p < 1:
            tokens[row] = _in_nucleus(weights[row].cpu().numpy(), top_p, number)
    return tokens


def _passing(weights: Float32[Tensor, "rows n"], numbers: Float64[Tensor, " rows"]) -> Tensor:
    """The place in each row at which the running sum passes its number's share of the whole sum."""
    short = -weights.shape[1] % BLOCK
    blocks = (pad(weights, (0, short)) if short else weights).view(len(weights), -1, BLOCK)
    sums = blocks.sum(dim=-1).cumsum(dim=-1, dtype=torch.float64)
    targets = numbers * sums[:, -1]
    rows = torch.arange(len(weights), device=weights.device)
    block = torch.searchsorted(sums, targets[:, None], right=True)[:, 0].clamp_(max=sums.shape[1] - 1)
    before = torch.where(block > 0, sums[rows, block - 1], 0)
    own = blocks[rows, block]
    running = own.cumsum(dim=-1, dtype=torch.float64)
    place = torch.searchsorted(running, (targets - before)[:, None], right=True)[:, 0]
    # Rounding must not lead past the last token that has any probability.
    last = (own > 0).cumsum(dim=-1).argmax(dim=-1)
    return block * BLOCK + place.minimum(last)


def _in_nucleus(weights: Float32[np.ndarray, " vocabulary"], top_p: float, number: float) -> int:
    """Draw from the fewest likeliest tokens that hold ``top_p`` of the probability.

    All tokens lighter than (1 - top_p) · sum / n together hold less than 1 - top_p: only the others need be sorted.
    """
    whole = float(weights.sum())
    heavy = np.flatnonzero(weights >= (1 - top_p) * whole / len(weights))
    order = heavy[np.argsort(-weights[heavy])]
    running = weights[order].cumsum(dtype=np.float64)
    kept = min(int(np.searchsorted(running, top_p * whole)), len(running) - 1)
    return int(order[np.searchsorted(running[: kept + 1], number * running[kept], side="right")])


def log_probabilities(
    logits: Float[Tensor, " vocabulary"], token: int, top: int
) -> tuple[float, list[tuple[int, float]]]:
    """The token's log-probability in nats, and those of the ``top`` likeliest tokens, likeliest first."""
    (probabilities,) = log_probabilities_of_rows(logits[None], [token], top)
    return probabilities


def log_probabilities_of_rows(
    logits: Float[Tensor, "rows vocabulary"], tokens: Sequence[int], top: int
) -> list[tuple[float, list[tuple[int, float]]]]:
    """``log_probabilities`` of one token per row; a piece of a prompt that is its last token has no row."""
    if not tokens:
        return []
    rows = logits.float().log_softmax(dim=-1)
    own = rows.gather(1, torch.tensor(tokens, dtype=torch.long, device=rows.device)[:, None])[:, 0].tolist()
    values, likeliest_tokens = (part.tolist() for part in _largest(rows, min(top, rows.shape[1])))
    pairs = [list(zip(*row, strict=True)) for row in zip(likeliest_tokens, values, strict=True)]
    return list(zip(own, pairs, strict=True))


def _largest(rows: Float32[Tensor, "rows n"], count: int) -> tuple[Tensor, Tensor]:
    """``topk``, three times as fast on a CPU: they lie in as many blocks as they are, those with the largest values."""
    short = -rows.shape[1] % BLOCK
    blocks = (pad(rows, (0, short), value=-torch.inf) if short else rows).view(len(rows), -1, BLOCK)
    if not 0 < count < blocks.shape[1]:
        values, tokens = rows.topk(count, dim=-1)
        return values, tokens
    best = blocks.amax(dim=-1).topk(count, dim=-1).indices
    held = blocks.gather(1, best[:, :, None].expand(-1, -1, BLOCK)).flatten(1)
    values, places = held.topk(count, dim=-1)
    return values, best.gather(1, places // BLOCK) * BLOCK + places % BLOCK
