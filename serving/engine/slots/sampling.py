"""Sampling: one token per row of a step's logits. A row's token depends on its own logits and number alone."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64, Int64, UInt8
from torch import Tensor
from torch.nn.functional import pad

from serving.model.log_sums import LOG2_E, log_sum_exp
from serving.model.workspace import Workspace

WEIGHTS = Workspace()
BLOCK = 256
"""A running sum over the vocabulary is taken by blocks first: most of it need not be computed."""


def block_maxima(logits: Float[Tensor, "rows vocabulary"]) -> Float[Tensor, "rows blocks"]:
    """The largest logit of each block of each row, NaN where there is any: ``amax`` is several times as fast as what
    tells places too, and all that is asked of a row's largest is then looked up in few blocks.
    """
    whole = logits.shape[1] // BLOCK * BLOCK
    maxima = logits[:, :whole].reshape(len(logits), whole // BLOCK, BLOCK).amax(dim=-1)
    return maxima if whole == logits.shape[1] else torch.cat([maxima, logits[:, whole:].amax(-1, keepdim=True)], dim=1)


def likeliest(
    logits: Float[Tensor, "rows vocabulary"], maxima: Float[Tensor, "rows blocks"]
) -> tuple[list[int], list[bool]]:
    """The likeliest token of each row, and whether the row can be drawn from: it holds no NaN and no infinity."""
    values, blocks = maxima.max(dim=-1)
    within = _of_blocks(logits, blocks[:, None]).max(dim=-1).indices
    return (blocks * BLOCK + within).tolist(), values.isfinite().tolist()


def _of_blocks(
    logits: Float[Tensor, "rows vocabulary"], blocks: Int64[Tensor, "rows n"]
) -> Float[Tensor, "rows tokens"]:
    """The logits of some blocks of each row, minus infinity beyond the vocabulary."""
    rows, size = logits.shape
    if size % BLOCK == 0 and logits.is_contiguous():  # whole blocks are copied faster than tokens are gathered
        first = torch.arange(rows, device=logits.device)[:, None] * (size // BLOCK)
        return logits.view(-1, BLOCK).index_select(0, (first + blocks).flatten()).view(rows, -1)
    places = (blocks[:, :, None] * BLOCK + torch.arange(BLOCK, device=logits.device)).flatten(1)
    return logits.gather(1, places.clamp(max=size - 1)).masked_fill_(places >= size, -torch.inf)


def masked(
    logits: Float[Tensor, "rows vocabulary"], allowed: Sequence[UInt8[np.ndarray, " bytes"]]
) -> Float[Tensor, "rows vocabulary"]:
    """The logits with all tokens made impossible that have no bit in their row of ``allowed``, the lowest bit first."""
    bits = np.unpackbits(np.stack(allowed), axis=1, count=logits.shape[1], bitorder="little")
    return logits.where(torch.from_numpy(bits).to(logits.device, torch.bool), -torch.inf)


def draw(
    logits: Float[Tensor, "rows vocabulary"],
    temperatures: Sequence[float],
    top_ps: Sequence[float],
    numbers: Sequence[float],
) -> list[int]:
    """One token a row: the one at which the cumulative probability passes the row's number from [0, 1)."""
    weights = WEIGHTS.of(logits.shape, logits.device)
    wide = logits.float()
    torch.sub(wide, wide.amax(dim=-1, keepdim=True), out=weights)
    weights.mul_(LOG2_E / weights.new_tensor(temperatures)[:, None]).exp2_()  # as for log sums
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


def log_probabilities_of_rows(
    logits: Float[Tensor, "rows vocabulary"], maxima: Float[Tensor, "rows blocks"], tokens: Sequence[int], top: int
) -> list[tuple[float, list[tuple[int, float]]]]:
    """The log-probability of one token per row, in nats, and those of its ``top`` likeliest tokens, likeliest first.

    There may be no rows: a piece of a prompt that is its last token has none.
    """
    if not tokens:
        return []
    log_sums = log_sum_exp(logits, maxima.amax(dim=-1))
    drawn = torch.tensor(tokens, dtype=torch.long, device=logits.device)[:, None]
    own = (logits.gather(1, drawn)[:, 0].float() - log_sums).tolist()
    values, likeliest_tokens = _largest(logits, maxima, min(top, logits.shape[1]))
    rows = zip(likeliest_tokens.tolist(), (values.float() - log_sums[:, None]).tolist(), strict=True)
    return list(zip(own, (list(zip(*row, strict=True)) for row in rows), strict=True))


def _largest(
    logits: Float[Tensor, "rows vocabulary"], maxima: Float[Tensor, "rows blocks"], count: int
) -> tuple[Float[Tensor, "rows count"], Int64[Tensor, "rows count"]]:
    """``topk``: they lie in as many blocks as they are, those with the largest values."""
    if not 0 < count < maxima.shape[1]:
        values, tokens = logits.topk(count, dim=-1)
        return values, tokens
    blocks = maxima.topk(count, dim=-1).indices
    values, within = _of_blocks(logits, blocks).topk(count, dim=-1)
    return values, blocks.gather(1, within // BLOCK) * BLOCK + within % BLOCK
