"""Drawing: the next token of each sequence of a step, and its log-probability; what one sequence raises is its own."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import UInt8
from torch import Tensor

from serving.engine.sequence import Logprobs
from serving.engine.slots.sampling import block_maxima, draw, likeliest, log_probabilities_of_rows, masked
from serving.engine.slots.slot_sequence import SlotSequence
from serving.model.workspace import Workspace

WIDE = Workspace()
Drawn = int | Exception | None
"""A token; ``None`` for logits that are no numbers, an error where drawing fails."""


def draw_with_logprobs(
    logits: Tensor, drawing: Sequence[SlotSequence]
) -> tuple[list[Drawn], dict[int, Logprobs | Exception]]:
    """One token per row, and the log-probabilities of the rows that ask for some.

    In float32, in which torch finds maxima in a fifth of the time that it takes in bfloat16, and sums begin.
    """
    logits = WIDE.of(logits.shape, logits.device).copy_(logits)
    maxima = block_maxima(logits)
    tokens = draw_tokens(logits, maxima, drawing)
    return tokens, logprobs_of_drawn(logits, maxima, drawing, tokens)


def draw_tokens(logits: Tensor, maxima: Tensor, drawing: Sequence[SlotSequence]) -> list[Drawn]:
    """One token per row; ``maxima`` are those of the logits' blocks."""
    greedy, sound = likeliest(logits, maxima)
    allowed, refused = _allowed_tokens(drawing)
    # The likeliest of all tokens is the likeliest of those that may follow, where it may follow itself.
    constrained = [
        row
        for row, bits in allowed.items()
        if sound[row] and not (drawing[row].sampling.is_greedy and _has_bit(bits, greedy[row]))
    ]
    if constrained:
        possible = masked(logits[constrained], [allowed[row] for row in constrained])
        likely, finite = likeliest(possible, block_maxima(possible))
        for row, possible_token, is_sound in zip(constrained, likely, finite, strict=True):
            greedy[row], sound[row] = possible_token, is_sound
        if not all(drawing[row].sampling.is_greedy for row in constrained):
            logits = logits.clone()  # log-probabilities are the model's own
            logits[constrained] = possible
    tokens: list[Drawn] = [
        refused.get(row, token if is_sound else None)
        for row, (token, is_sound) in enumerate(zip(greedy, sound, strict=True))
    ]
    rows = [
        row
        for row, running in enumerate(drawing)
        if sound[row] and row not in refused and not running.sampling.is_greedy
    ]
    if rows:
        numbers = [drawing[row].next_number() for row in rows]
        try:
            sampled: Sequence[int | Exception] = _sample(logits, drawing, rows, numbers)
        except Exception:
            sampled = [_sample_alone(logits, drawing, row, number) for row, number in zip(rows, numbers, strict=True)]
        for row, token in zip(rows, sampled, strict=True):
            tokens[row] = token
    return tokens


def logprobs_of_drawn(
    logits: Tensor, maxima: Tensor, drawing: Sequence[SlotSequence], tokens: Sequence[Drawn]
) -> dict[int, Logprobs | Exception]:
    """Of the rows that ask for log-probabilities and have a token: all together that ask for as many alternatives."""
    tokens_by_top: dict[int, dict[int, int]] = {}
    for row, (running, token) in enumerate(zip(drawing, tokens, strict=True)):
        if running.sampling.top_logprobs is not None and isinstance(token, int):
            tokens_by_top.setdefault(running.sampling.top_logprobs, {})[row] = token
    logprobs: dict[int, Logprobs | Exception] = {}
    for top, drawn in tokens_by_top.items():
        logprobs |= _logprobs(logits, maxima, drawn, top)
    return logprobs


def _logprobs(logits: Tensor, maxima: Tensor, tokens: Mapping[int, int], top: int) -> dict[int, Logprobs | Exception]:
    """Of one token a row; where they fail for all, of each alone."""
    rows = list(tokens)
    of_rows = (logits, maxima) if len(rows) == len(logits) else (logits[rows], maxima[rows])
    try:
        found = log_probabilities_of_rows(*of_rows, list(tokens.values()), top)
    except Exception as error:
        if len(rows) == 1:
            return {rows[0]: error}
        alone = [_logprobs(logits, maxima, {row: token}, top) for row, token in tokens.items()]
        return {row: logprobs for each in alone for row, logprobs in each.items()}
    return dict(zip(rows, found, strict=True))


def _allowed_tokens(
    drawing: Sequence[SlotSequence],
) -> tuple[dict[int, UInt8[np.ndarray, " bytes"]], dict[int, Exception]]:
    """Of the rows that follow a grammar, the tokens that may follow by it, or what it raises."""
    allowed: dict[int, UInt8[np.ndarray, " bytes"]] = {}
    refused: dict[int, Exception] = {}
    for row, running in enumerate(drawing):
        if running.grammar is not None:
            try:
                allowed[row] = running.grammar.allowed()
            except Exception as error:
                refused[row] = error
    return allowed, refused


def _has_bit(bits: UInt8[np.ndarray, " bytes"], token: int) -> bool:
    byte, bit = divmod(token, 8)
    return byte < len(bits) and bool(bits[byte] >> bit & 1)


def _sample(
    logits: Tensor, drawing: Sequence[SlotSequence], rows: Sequence[int], numbers: Sequence[float]
) -> Sequence[int]:
    sampling = [drawing[row].sampling for row in rows]
    return draw(
        logits if len(rows) == len(logits) else logits[list(rows)],
        [given.temperature for given in sampling],
        [given.top_p for given in sampling],
        numbers,
    )


def _sample_alone(logits: Tensor, drawing: Sequence[SlotSequence], row: int, number: float) -> int | Exception:
    try:
        return _sample(logits, drawing, [row], [number])[0]
    except Exception as error:
        return error
