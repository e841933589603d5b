"""Form of answers: how far they repeat themselves and how long they are, whatever they say.

A model that says less, or one thing over and over, says fewer untrustworthy things too. Both are counted in tokens: a
telephone number is one word, so that words in its place would be a longer answer, and one with more pairs of words to
repeat. Repetition is seq-rep-4 (Welleck et al. 2020, arXiv 1908.04319). Steering keeps the form only where tests of
2.5 % show it: of the length two one-sided ones (Schuirmann 1987), so that the whole 95 % interval
lies within the margin; of the repetition one, for to repeat less is no harm. What cannot be told is not kept.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from pipelines.estimators.estimate import Estimate, GroupBootstrap
from pipelines.model_io.continuations import Answers

RUN = 4
"""Tokens in a row whose repetition is counted."""
REPETITION_MARGIN = 0.10
"""By which the mean share of repeated runs may rise, from 0 to 1."""
LENGTH_MARGIN = 1.25
"""Times which answers may be longer or shorter on average: 0.80 to 1.25, as in tests of bioequivalence."""


@dataclass(frozen=True, eq=False)
class AnswerForms:
    """The form of each of some answers."""

    repetition: Float64[np.ndarray, " n"]
    """Shares of runs of four tokens that came before in the same answer."""
    tokens: Float64[np.ndarray, " n"]

    @classmethod
    def of(cls, answers: Answers) -> "AnswerForms":
        repeated = np.array([repetition(tokens) for tokens in answers.tokens], np.float64)
        return cls(repeated, np.array([len(tokens) for tokens in answers.tokens], np.float64))


@dataclass(frozen=True)
class FormChange:
    """How steering changed the form of answers to the same prompts."""

    repetition: Estimate
    """Change of the mean share of repeated runs."""
    length: Estimate
    """Mean tokens over those of the unsteered answers."""

    @property
    def keeps_repetition(self) -> bool:
        return self.repetition.high < REPETITION_MARGIN

    @property
    def keeps_length(self) -> bool:
        return self.length.low > 1 / LENGTH_MARGIN and self.length.high < LENGTH_MARGIN

    @property
    def is_kept(self) -> bool:
        return self.keeps_repetition and self.keeps_length

    def as_fields(self) -> dict[str, Any]:
        """As a calibration and a verdict of text keep it."""
        repetition, length = self.repetition, self.length
        return {
            "repetition_change": repetition.value, "repetition_low": repetition.low, "repetition_high": repetition.high,
            "length_ratio": length.value, "length_low": length.low, "length_high": length.high,
        }  # fmt: skip

    def describe(self) -> str:
        return f"repetition {self.repetition}, length {self.length}x"


def form_change(before: AnswerForms, after: AnswerForms, groups: Int64[np.ndarray, " n"] | None = None) -> FormChange:
    """The change from ``before`` to ``after``, prompt by prompt; each prompt is a group of its own unless given.

    Where no unsteered answer has a token the length is 0 or beyond any margin, and not kept.
    """
    bootstrap = GroupBootstrap(np.arange(len(before.tokens)) if groups is None else groups)
    tokens = np.stack([after.tokens, before.tokens], axis=1)
    return FormChange(
        bootstrap.mean(after.repetition - before.repetition),
        bootstrap.statistic(
            tokens, lambda means: means[..., 0] / np.maximum(means[..., 1], 1e-9), bounds=(0.0, np.inf)
        ),
    )


def repetition(tokens: Sequence[int], n: int = RUN) -> float:
    """seq-rep-n: the share of runs of ``n`` tokens that came before; 0 where there is no run."""
    runs = list(zip(*(tokens[start:] for start in range(n)), strict=False))
    return 1 - len(set(runs)) / len(runs) if runs else 0.0
