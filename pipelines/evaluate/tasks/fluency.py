"""Fluency: perplexity on held-out prose, and whether continuations repeat themselves."""

from collections import Counter
from collections.abc import Sequence
from itertools import chain

import numpy as np
from jaxtyping import Float64

from pipelines.behaviours.form import repetition
from pipelines.evaluate.measurement import Measurement, mean_of, perplexity_of_means
from pipelines.evaluate.tasks.task import Task, TaskReading

FLUENCY = "fluency"
"""The name of fluency in the column of dimensions; it is none."""
OPENING_WORDS = 5


def perplexity_task(sentences: Sequence[str]) -> Task:
    """Perplexity of all sentences together, by token."""

    def measure(reading: TaskReading) -> tuple[Measurement, ...]:
        columns = np.stack([-reading.log_probabilities, reading.tokens.astype(np.float64)], axis=1)
        groups = np.arange(len(columns))
        return (Measurement(FLUENCY, "perplexity", columns, groups, -1, perplexity_of_means),)

    return Task("perplexity", FLUENCY, measure, texts=tuple(sentences))


def continuations_task(sentences: Sequence[str]) -> Task:
    """How varied the continuations of each sentence's first words are, how long, and how many say nothing."""
    prompts = tuple(" ".join(sentence.split()[:OPENING_WORDS]) for sentence in sentences)

    def measure(reading: TaskReading) -> tuple[Measurement, ...]:
        groups, texts = np.arange(len(prompts)), reading.continuations
        lengths = [len(text.split()) for text in texts]
        return (
            *(
                Measurement(FLUENCY, f"distinct-{n}", distinct_columns(texts, n), groups, 1, distinct_of_means)
                for n in (1, 2)
            ),
            mean_of(FLUENCY, "repetition", [repetition(tokens) for tokens in reading.answers.tokens], groups, -1),
            mean_of(FLUENCY, "words of continuations", lengths, groups, 0),
            mean_of(FLUENCY, "empty continuations", [not length for length in lengths], groups, -1),
        )

    return Task("continuations", FLUENCY, measure, prompts=prompts)


def distinct_columns(texts: Sequence[str], n: int) -> Float64[np.ndarray, "texts 2"]:
    """Of each text, its share in the distinct word ``n``-grams of all texts, and its ``n``-grams.

    A gram that occurs ``k`` times in all counts ``1 / k`` wherever it does, so the shares add up to the distinct ones.
    """
    grams = [list(zip(*(text.split()[start:] for start in range(n)), strict=False)) for text in texts]
    counts = Counter(chain.from_iterable(grams))
    return np.array([(sum(1 / counts[gram] for gram in own), len(own)) for own in grams], np.float64).reshape(-1, 2)


def distinct_of_means(means: np.ndarray) -> np.ndarray:
    """Distinct ``n``-grams of all texts over all of them (Li et al. 2016); 0 where there are none."""
    shares: np.ndarray = means[..., 0] / np.where(means[..., 1] > 0, means[..., 1], np.inf)
    return shares
