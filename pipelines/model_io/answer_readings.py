"""Answer readings: hidden states of answers as a monitor reads them while they are written.

A monitor reads an answer's token once the next one is drawn: all of them but the last. A reading is the mean over the
hidden states of the latest ``window`` of them.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import chain

import numpy as np
from jaxtyping import Float32, Float64, Int64
from torch import Tensor

from pipelines.model_io.batches import tokenise
from pipelines.model_io.passes import run_passes
from pipelines.model_io.prefix_trees import shared_tokens
from pipelines.model_io.reading_batches import ReadingBatch, reading_batches
from pipelines.model_io.trunk_reading import trunk_reading
from registry.errors import InvalidInput
from serving.model.language_model import LanguageModel

TOKENS_PER_BATCH = 1024


@dataclass(frozen=True, eq=False)
class AnswerReadings:
    """Readings of some answers, in the order of the answers and of their tokens."""

    states: Float32[np.ndarray, "n d_model"]
    answers: Int64[np.ndarray, " n"]
    """The number of the answer that each reading is of; an answer of one token has none."""

    @property
    def last(self) -> Int64[np.ndarray, " answers"]:
        """The row of the last reading of each answer that has any."""
        return np.flatnonzero(np.diff(self.answers, append=-1))

    def lowest(self, values: Float64[np.ndarray, " n"]) -> Float64[np.ndarray, " answers"]:
        """Of each of them the least of a value per reading."""
        result: Float64[np.ndarray, " answers"] = np.minimum.reduceat(values, np.r_[0, self.last[:-1] + 1])
        return result


def read_answers(
    model: LanguageModel,
    prompts: Sequence[str],
    answers: Sequence[str],
    *,
    layer: int,
    window: int,
    most: int,
    tokens_per_batch: int = TOKENS_PER_BATCH,
) -> AnswerReadings:
    """The readings of each answer after its prompt at the output of block ``layer``, at most ``most`` of one answer.

    Of a longer answer they are spread evenly over it, its first and its last among them. Raises ``InvalidInput`` for an
    answer without tokens of its own.
    """
    texts = [f"{prompt}{answer}" for prompt, answer in zip(prompts, answers, strict=True)]
    sequences = tokenise(model, texts)
    starts = [shared_tokens(*both) for both in zip(tokenise(model, prompts), sequences, strict=True)]
    for start, sequence, answer in zip(starts, sequences, answers, strict=True):
        if start == len(sequence):
            raise InvalidInput(f"the answer {answer!r} has no tokens of its own after its prompt; leave it out")
    spans = [(start, len(sequence) - 1) for start, sequence in zip(starts, sequences, strict=True)]
    read: list[Float32[np.ndarray, "n d_model"]] = [np.empty((0, model.d_model), np.float32)] * len(texts)
    now = threading.local()

    def keep(_: int, states: Tensor) -> None:
        now.states = states

    def run(batch: ReadingBatch) -> list[tuple[int, Float32[np.ndarray, "n d_model"]]]:
        run_trunk(batch.inputs)
        return list(_readings(batch, now.states, spans, window, most))

    batches = reading_batches(model, sequences, tokens_per_batch)
    with trunk_reading(model, [layer], keep) as run_trunk, closing(run_passes(model, run, batches)) as passes:
        for row, of_answer in chain.from_iterable(passes):
            read[row] = of_answer
    counts = [len(of_answer) for of_answer in read]
    return AnswerReadings(np.concatenate(read), np.repeat(np.arange(len(read)), counts))


def _readings(
    batch: ReadingBatch, states: Tensor, spans: Sequence[tuple[int, int]], window: int, most: int
) -> Iterator[tuple[int, Float32[np.ndarray, "n d_model"]]]:
    """Of each text that the batch reads, its number and its readings of ``states``, those of all tokens."""
    for row, places in zip(batch.rows.tolist(), batch.places, strict=True):
        first, end = spans[row]
        of_answer = batch.at(places[first:end], states).float().cpu().numpy()
        yield row, windowed_means(of_answer, window)[spread(end - first, most)]


def windowed_means(states: Float32[np.ndarray, "tokens d_model"], window: int) -> Float32[np.ndarray, "tokens d_model"]:
    """At each token the mean over the latest ``window`` ones, of fewer where there are fewer."""
    totals = np.concatenate([np.zeros((1, states.shape[1])), np.cumsum(states, axis=0, dtype=np.float64)])
    ends = np.arange(1, len(states) + 1)
    starts = np.maximum(ends - window, 0)
    means: Float32[np.ndarray, "tokens d_model"] = (totals[ends] - totals[starts]) / (ends - starts)[:, None]
    return means.astype(np.float32)


def spread(count: int, most: int) -> Int64[np.ndarray, " chosen"]:
    """At most ``most`` of ``count`` places, evenly spread, the first and the last among them."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64))
