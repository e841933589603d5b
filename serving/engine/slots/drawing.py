"""Drawing: the next token of each sequence of a step; what one sequence raises is its own."""

from collections.abc import Sequence

from torch import Tensor

from serving.engine.slots.sampling import draw, likeliest
from serving.engine.slots.slot_sequence import SlotSequence


def draw_tokens(logits: Tensor, drawing: Sequence[SlotSequence]) -> list[int | Exception | None]:
    """One token per row; ``None`` for logits that are no numbers, an error where drawing fails."""
    constrained = [(row, running.grammar) for row, running in enumerate(drawing) if running.grammar is not None]
    if constrained:
        logits = logits.clone()  # log-probabilities are the model's own
    refused: dict[int, Exception] = {}
    for row, grammar in constrained:
        try:
            grammar.mask(logits[row])
        except Exception as error:
            refused[row] = error
    greedy, sound = likeliest(logits)
    tokens: list[int | Exception | None] = [
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
