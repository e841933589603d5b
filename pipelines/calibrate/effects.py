"""Effects of steering: how far it moves a model's preference between statements, and its cost on ordinary prose."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int64

from pipelines.calibrate.candidates import Candidate
from pipelines.estimators.estimate import Estimate, GroupBootstrap, class_columns, difference_of_class_means
from pipelines.model_io.likelihoods import Below, Likelihoods, likelihoods
from registry.calibration import CalibrationPoint
from serving.model.language_model import LanguageModel

CHEAP = 1.10
"""A recommended strength raises perplexity by at most a tenth: the upper end of the ratio's interval on validation."""


@dataclass(frozen=True)
class Texts:
    """Statements and prose to measure on, with their likelihoods under the unsteered model."""

    statements: tuple[str, ...]
    labels: Bool[np.ndarray, " n"]
    groups: Int64[np.ndarray, " n"]
    prose: tuple[str, ...]
    plain: Likelihoods
    """Of the statements."""
    plain_prose: Likelihoods
    below: tuple[Below, Below] = field(default_factory=lambda: (Below(), Below()))
    """Of the statements and of the prose, under the layers steered so far."""

    @classmethod
    def measured(
        cls,
        model: LanguageModel,
        statements: Sequence[str],
        labels: Bool[np.ndarray, " n"],
        groups: Int64[np.ndarray, " n"],
        prose: Sequence[str],
    ) -> "Texts":
        plain, plain_prose = likelihoods(model, statements), likelihoods(model, prose)
        return cls(tuple(statements), labels, groups, tuple(prose), plain, plain_prose)


@dataclass(frozen=True)
class Effect:
    """The effect of one candidate at one strength."""

    label: str
    layer: int
    strength: float
    perplexity: Estimate
    """Of prose, over that of the unsteered model; the interval resamples sentences."""
    shift: Estimate

    @property
    def is_surely_cheap(self) -> bool:
        """Asked of a choice: on other prose a strength at the limit would pass it as often as not."""
        return self.perplexity.high <= CHEAP

    @property
    def is_cheap(self) -> bool:
        """Asked of a choice that is tested, on prose that it was not made on."""
        return self.perplexity.value <= CHEAP

    def to_point(self) -> CalibrationPoint:
        shift = self.shift
        return CalibrationPoint(self.strength, self.perplexity.value, shift.value, shift.low, shift.high)


def measure_effect(model: LanguageModel, texts: Texts, candidate: Candidate, strength: float) -> Effect:
    """The effect of adding ``candidate`` at ``strength`` to every position."""
    offsets = {candidate.layer: strength * torch.tensor(candidate.scale * candidate.unit)}
    prose = likelihoods(model, texts.prose, offsets, below=texts.below[1])
    steered = likelihoods(model, texts.statements, offsets, below=texts.below[0])
    shift = preference_shift(texts.plain.log_probabilities, steered.log_probabilities, texts.labels, texts.groups)
    return Effect(candidate.label, candidate.layer, strength, perplexity_ratio(texts.plain_prose, prose), shift)


def no_effect(texts: Texts, candidate: Candidate) -> Effect:
    """Strength 0, which need not be measured."""
    ratio, shift = Estimate(1.0, 1.0, 1.0, len(texts.prose)), Estimate(0.0, 0.0, 0.0, len(texts.statements))
    return Effect(candidate.label, candidate.layer, 0.0, ratio, shift)


def preference_shift(
    before: Float64[np.ndarray, " n"],
    after: Float64[np.ndarray, " n"],
    labels: Bool[np.ndarray, " n"],
    groups: Int64[np.ndarray, " n"],
) -> Estimate:
    """By how many nats the mean log-probability of trustworthy statements rose against that of untrustworthy ones.

    ``before`` and ``after`` are log-probabilities of the same statements, unsteered and steered; positive is the wanted
    direction. The interval resamples whole groups; a move of both classes alike adds no uncertainty.
    """
    columns = class_columns(after - before, labels)
    return GroupBootstrap(groups).statistic(columns, difference_of_class_means, labels=labels)


def perplexity_ratio(before: Likelihoods, after: Likelihoods) -> Estimate:
    """Perplexity of ``after`` over that of ``before``, by token, on the same texts.

    The interval is made of the logarithm of the ratio; it resamples texts, of which long ones weigh more.
    """
    lost, tokens = before.log_probabilities - after.log_probabilities, before.tokens
    columns = np.stack([lost, tokens], axis=1).astype(np.float64)
    log_ratio = GroupBootstrap(np.arange(len(tokens))).statistic(columns, lambda means: means[..., 0] / means[..., 1])
    value, low, high = np.exp([log_ratio.value, log_ratio.low, log_ratio.high])
    return Estimate(float(value), float(low), float(high), len(tokens))
