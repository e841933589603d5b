"""Fluency: perplexity on held-out prose, and whether continuations repeat themselves."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from pipelines.evaluate.measurement import Measurement, mean_of, perplexity_of_means
from pipelines.evaluate.tasks.task import Reading, Task

FLUENCY = "fluency"
"""The name of fluency in the column of dimensions; it is none."""
OPENING_WORDS = 5


def perplexity_task(sentences: Sequence[str]) -> Task:
    """Perplexity of all sentences together, by token."""

    def measure(reading: Reading) -> tuple[Measurement, ...]:
        columns = np.stack([-reading.log_probabilities, reading.tokens.astype(np.float64)], axis=1)
        groups = np.arange(len(columns))
        return (Measurement(FLUENCY, "perplexity", columns, groups, -1, perplexity_of_means),)

    return Task("perplexity", FLUENCY, measure, texts=tuple(sentences))


def continuations_task(sentences: Sequence[str]) -> Task:
    """How varied the continuations of each sentence's first words are."""
    prompts = tuple(" ".join(sentence.split()[:OPENING_WORDS]) for sentence in sentences)

    def measure(reading: Reading) -> tuple[Measurement, ...]:
        groups, texts = np.arange(len(prompts)), reading.continuations
        return (
            mean_of(FLUENCY, "distinct-1", [distinct(text, 1) for text in texts], groups, 1),
            mean_of(FLUENCY, "distinct-2", [distinct(text, 2) for text in texts], groups, 1),
            mean_of(FLUENCY, "repetition", [repetition(text) for text in texts], groups, -1),
        )

    return Task("continuations", FLUENCY, measure, prompts=prompts)


def distinct(text: str, n: int) -> float:
    """Distinct word ``n``-grams over all of them (Li et al. 2016); 1 for a text too short to repeat one."""
    grams = list(zip(*(text.split()[start:] for start in range(n)), strict=False))
    return len(set(grams)) / len(grams) if grams else 1.0


def repetition(text: str, n: int = 4) -> float:
    """The share of word ``n``-grams that occur more than once."""
    counts = Counter(zip(*(text.split()[start:] for start in range(n)), strict=False))
    total = sum(counts.values())
    return sum(count for count in counts.values() if count > 1) / total if total else 0.0
