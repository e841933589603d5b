"""The search for a direction and the strengths at which it steers well: chosen on validation, told on test.

Held-out statements and held-out prose are each cut in two. A coarse search over candidates, directions by some method
at some layer, finds which moves preference most while perplexity stays within ``CHEAP``; of that one the whole curve
is measured, of which the safe range and the recommended strength follow. Only then is the other half looked at, once,
beside the best of every other method and random directions.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int64

from pipelines.calibrate.effects import perplexity_ratio, preference_shift
from pipelines.estimators.estimate import Estimate
from pipelines.model_io.likelihoods import Below, Likelihoods, likelihoods
from registry.calibration import PERPLEXITY_CAP, CalibrationPoint
from serving.model.language_model import LanguageModel

CHEAP = 1.10
"""A recommended strength raises perplexity by at most a tenth: the upper end of the ratio's interval on validation."""
SEARCHED = (2.0, 4.0)
"""Strengths of the search over candidates."""
CURVE = (-8.0, -4.0, -2.0, -1.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 6.0, 8.0)
RANDOM_DIRECTIONS = 5


@dataclass(frozen=True, eq=False)
class Candidate:
    """A direction that might be calibrated."""

    label: str
    """The method, or the reference of a registered vector."""
    layer: int
    unit: Float32[np.ndarray, " d_model"]
    scale: float
    """Length of the offset at strength 1."""


@dataclass(frozen=True)
class Texts:
    """Statements and prose to measure on, with what the unsteered model says of both."""

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
    """What one strength of one candidate does."""

    label: str
    layer: int
    strength: float
    perplexity: Estimate
    """Of prose, over that of the unsteered model; the interval resamples sentences."""
    shift: Estimate

    @property
    def is_surely_cheap(self) -> bool:
        """What is asked of a choice: on other prose a strength at the limit would pass it as often as not."""
        return self.perplexity.high <= CHEAP

    @property
    def is_cheap(self) -> bool:
        """What a choice is judged by, on prose that it was not made on."""
        return self.perplexity.value <= CHEAP

    def to_point(self) -> CalibrationPoint:
        shift = self.shift
        return CalibrationPoint(self.strength, self.perplexity.value, shift.value, shift.low, shift.high)


@dataclass(frozen=True)
class Calibrated:
    """The candidate that was chosen, its curve, and what it does at the recommended strength on the other half."""

    candidate: Candidate
    searched: tuple[Effect, ...]
    """All candidates at the strengths of the search."""
    curve: tuple[Effect, ...]
    """Of the chosen one, in order of strength, zero included: up to the first beyond the cap on either side."""
    low: float
    high: float
    recommended: float
    tested: Effect
    others: tuple[Effect, ...]
    """The best of every other label on validation, on the same test statements."""
    random: tuple[Effect, ...]
    """Random directions with offsets of the same length, on the same test statements."""

    @property
    def layer(self) -> int:
        return self.candidate.layer

    @property
    def beats_random(self) -> bool:
        """Whether the test interval lies above every random direction's shift."""
        return self.tested.shift.low > max(one.shift.value for one in self.random)

    @property
    def works(self) -> bool:
        """Whether the recommended strength moves preference beyond chance and random directions, at little cost."""
        return self.recommended > 0 and self.tested.shift.low > 0 and self.tested.is_cheap and self.beats_random


def settings_to_measure(candidates: Sequence[Candidate]) -> int:
    """How often ``calibrate`` measures at most, for a progress bar."""
    labels = {one.label for one in candidates}
    return len(candidates) * len(SEARCHED) + len(CURVE) + len(labels) + RANDOM_DIRECTIONS


def calibrate(
    model: LanguageModel,
    candidates: Sequence[Candidate],
    validation: Texts,
    test: Texts,
    *,
    seed: int = 0,
    on_setting: Callable[[], object] = lambda: None,
) -> Calibrated:
    """Choose candidate and strengths on ``validation``, then measure the choice on ``test`` beside its controls."""

    def measure(texts: Texts, candidate: Candidate, strength: float) -> Effect:
        on_setting()
        return effect(model, texts, candidate, strength)

    found = [(one, measure(validation, one, strength)) for one in candidates for strength in SEARCHED]
    best = _best_of_each_label(found)
    chosen, at_best = _best(best)
    known = {effect.strength: effect for one, effect in found if one is chosen} | {0.0: nothing(validation, chosen)}
    for side in (sorted(one for one in CURVE if one > 0), sorted((one for one in CURVE if one < 0), reverse=True)):
        for strength in side:
            if strength not in known:
                known[strength] = measure(validation, chosen, strength)
            # Stronger ones are not in the safe range whatever they do.
            if known[strength].perplexity.value > PERPLEXITY_CAP:
                break
    curve = tuple(known[strength] for strength in sorted(known))
    low, high = safe_range(curve)
    recommended = recommend([one for one in curve if low <= one.strength <= high])
    # Where nothing works there is still something to show beside random directions: the search's best.
    shown = recommended or at_best.strength
    return Calibrated(
        candidate=chosen,
        searched=tuple(effect for _, effect in found),
        curve=curve,
        low=low,
        high=high,
        recommended=recommended,
        tested=measure(test, chosen, shown),
        others=tuple(measure(test, one, effect.strength) for one, effect in best if one.label != chosen.label),
        random=tuple(measure(test, one, shown) for one in _random_like(chosen, seed)),
    )


def effect(model: LanguageModel, texts: Texts, candidate: Candidate, strength: float) -> Effect:
    """What adding ``candidate`` at ``strength`` to every position does."""
    offsets = {candidate.layer: strength * torch.tensor(candidate.scale * candidate.unit)}
    prose = likelihoods(model, texts.prose, offsets, below=texts.below[1])
    steered = likelihoods(model, texts.statements, offsets, below=texts.below[0])
    shift = preference_shift(texts.plain.log_probabilities, steered.log_probabilities, texts.labels, texts.groups)
    return Effect(candidate.label, candidate.layer, strength, perplexity_ratio(texts.plain_prose, prose), shift)


def nothing(texts: Texts, candidate: Candidate) -> Effect:
    """Strength 0, which need not be measured."""
    same, still = Estimate(1.0, 1.0, 1.0, len(texts.prose)), Estimate(0.0, 0.0, 0.0, len(texts.statements))
    return Effect(candidate.label, candidate.layer, 0.0, same, still)


def safe_range(curve: Sequence[Effect]) -> tuple[float, float]:
    """The strengths around 0, without a gap, at which perplexity stays within ``PERPLEXITY_CAP``."""

    def last(effects: Sequence[Effect]) -> float:
        reached = 0.0
        for one in effects:
            if one.perplexity.value > PERPLEXITY_CAP:
                break
            reached = one.strength
        return reached

    up = [one for one in curve if one.strength >= 0]
    down = [one for one in reversed(curve) if one.strength <= 0]
    return last(down), last(up)


def recommend(curve: Sequence[Effect]) -> float:
    """The positive strength that is surely cheap and moves preference most, beyond chance; 0 when none does."""
    working = [one for one in curve if one.strength > 0 and one.is_surely_cheap and one.shift.low > 0]
    return max(working, key=lambda one: one.shift.value).strength if working else 0.0


Found = tuple[Candidate, Effect]


def _best_of_each_label(found: Sequence[Found]) -> list[Found]:
    labels = dict.fromkeys(candidate.label for candidate, _ in found)
    return [_best([one for one in found if one[0].label == label]) for label in labels]


def _best(found: Sequence[Found]) -> Found:
    """The largest shift among the surely cheap, or the cheapest where none is."""
    cheap = [one for one in found if one[1].is_surely_cheap]
    if cheap:
        return max(cheap, key=lambda one: one[1].shift.value)
    return min(found, key=lambda one: one[1].perplexity.value)


def _random_like(candidate: Candidate, seed: int) -> Iterator[Candidate]:
    """Directions drawn evenly from the sphere, in the place of ``candidate``."""
    rng = np.random.default_rng(seed)
    for _ in range(RANDOM_DIRECTIONS):
        drawn = rng.normal(size=len(candidate.unit))
        yield Candidate("random", candidate.layer, (drawn / np.linalg.norm(drawn)).astype(np.float32), candidate.scale)
