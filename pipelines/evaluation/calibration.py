"""The search for a layer and the strengths at which a direction steers well: chosen on validation, told on test.

Held-out statements and held-out prose are each cut in two. A coarse search over layers finds where a direction moves
preference most while perplexity stays within ``CHEAP``; at that layer the whole curve is measured, of which the safe
range and the recommended strength follow. Only then is the other half looked at, once, beside random directions.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int64
from torch import Tensor

from pipelines.estimators.estimate import Estimate
from pipelines.estimators.mass_mean import MassMean
from pipelines.evaluation.likelihood import Below, Likelihoods, likelihoods
from pipelines.evaluation.shift import preference_shift
from registry.calibration import PERPLEXITY_CAP, CalibrationPoint
from serving.model.language_model import LanguageModel

CHEAP = 1.10
"""A recommended strength raises perplexity by at most a tenth."""
SEARCHED = (2.0, 4.0)
"""Strengths of the search over layers."""
CURVE = (-8.0, -4.0, -2.0, -1.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)
RANDOM_DIRECTIONS = 5


@dataclass(frozen=True)
class Texts:
    """Statements and prose to measure on, with what the unsteered model says of both."""

    statements: tuple[str, ...]
    labels: Bool[np.ndarray, " n"]
    groups: Int64[np.ndarray, " n"]
    prose: tuple[str, ...]
    plain: Likelihoods
    """Of the statements."""
    plain_perplexity: float
    """Of the prose."""
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
        plain, perplexity = likelihoods(model, statements), likelihoods(model, prose).perplexity
        return cls(tuple(statements), labels, groups, tuple(prose), plain, perplexity)


@dataclass(frozen=True)
class Effect:
    """What one strength at one layer does."""

    layer: int
    strength: float
    perplexity_ratio: float
    shift: Estimate

    @property
    def is_cheap(self) -> bool:
        return self.perplexity_ratio <= CHEAP

    @property
    def works(self) -> bool:
        """Moves preference in the wanted direction beyond chance, at little cost."""
        return self.is_cheap and self.shift.low > 0

    def to_point(self) -> CalibrationPoint:
        return CalibrationPoint(self.strength, self.perplexity_ratio, self.shift.value, self.shift.low, self.shift.high)


@dataclass(frozen=True)
class CalibratedLayer:
    """The layer that was chosen, its curve, and what the recommended strength does on statements never looked at."""

    layer: int
    searched: tuple[Effect, ...]
    """All layers at the strengths of the search."""
    curve: tuple[Effect, ...]
    """At the chosen layer, in order of strength, zero included: up to the first beyond the cap on either side."""
    low: float
    high: float
    recommended: float
    tested: Effect
    random: tuple[Effect, ...]
    """Random directions with offsets of the same length, on the same test statements."""

    @property
    def beats_random(self) -> bool:
        """Whether the test interval lies above every random direction's shift."""
        return self.tested.shift.low > max(one.shift.value for one in self.random)


def settings_to_measure(n_layers: int) -> int:
    """How often ``calibrate`` measures at most, for a progress bar."""
    return n_layers * len(SEARCHED) + len(CURVE) + 1 + RANDOM_DIRECTIONS


def calibrate(
    model: LanguageModel,
    directions: Mapping[int, MassMean],
    validation: Texts,
    test: Texts,
    *,
    seed: int = 0,
    on_setting: Callable[[], None] = lambda: None,
) -> CalibratedLayer:
    """Choose layer and strengths on ``validation``, then measure the choice on ``test`` beside random directions."""

    def measure(texts: Texts, layer: int, strength: float, direction: Float32[np.ndarray, " d_model"]) -> Effect:
        on_setting()
        return effect(model, texts, layer, strength, torch.tensor(directions[layer].scale * direction))

    searched = tuple(
        measure(validation, layer, strength, found.direction)
        for layer, found in directions.items()
        for strength in SEARCHED
    )
    layer = _best(searched).layer
    direction = directions[layer].direction
    known = {one.strength: one for one in searched if one.layer == layer} | {0.0: nothing(validation, layer)}
    for side in (sorted(one for one in CURVE if one > 0), sorted((one for one in CURVE if one < 0), reverse=True)):
        for strength in side:
            if strength not in known:
                known[strength] = measure(validation, layer, strength, direction)
            # Stronger ones are not in the safe range whatever they do.
            if known[strength].perplexity_ratio > PERPLEXITY_CAP:
                break
    curve = tuple(known[strength] for strength in sorted(known))
    low, high = safe_range(curve)
    recommended = recommend([one for one in curve if low <= one.strength <= high])
    # Where nothing works there is still something to show beside random directions: the search's best.
    shown = recommended or _best(searched).strength
    rng = np.random.default_rng(seed)
    return CalibratedLayer(
        layer=layer,
        searched=searched,
        curve=curve,
        low=low,
        high=high,
        recommended=recommended,
        tested=measure(test, layer, shown, direction),
        random=tuple(measure(test, layer, shown, one) for one in _random_units(rng, len(direction))),
    )


def effect(model: LanguageModel, texts: Texts, layer: int, strength: float, unit: Tensor) -> Effect:
    """What adding ``strength * unit`` at every position does; ``unit`` is the offset ``[d_model]`` at strength 1."""
    offsets = {layer: strength * unit}
    perplexity = likelihoods(model, texts.prose, offsets, below=texts.below[1]).perplexity
    steered = likelihoods(model, texts.statements, offsets, below=texts.below[0])
    shift = preference_shift(texts.plain.log_probabilities, steered.log_probabilities, texts.labels, texts.groups)
    return Effect(layer, strength, perplexity / texts.plain_perplexity, shift)


def nothing(texts: Texts, layer: int) -> Effect:
    """Strength 0, which need not be measured."""
    return Effect(layer, 0.0, 1.0, Estimate(0.0, 0.0, 0.0, len(texts.statements)))


def safe_range(curve: Sequence[Effect]) -> tuple[float, float]:
    """The strengths around 0, without a gap, at which perplexity stays within ``PERPLEXITY_CAP``."""

    def last(effects: Sequence[Effect]) -> float:
        reached = 0.0
        for one in effects:
            if one.perplexity_ratio > PERPLEXITY_CAP:
                break
            reached = one.strength
        return reached

    up = [one for one in curve if one.strength >= 0]
    down = [one for one in reversed(curve) if one.strength <= 0]
    return last(down), last(up)


def recommend(curve: Sequence[Effect]) -> float:
    """The positive strength that works and moves preference most; 0 when none works."""
    working = [one for one in curve if one.strength > 0 and one.works]
    return max(working, key=lambda one: one.shift.value).strength if working else 0.0


def _best(searched: Sequence[Effect]) -> Effect:
    """The largest shift among the cheap, or the cheapest where none is."""
    cheap = [one for one in searched if one.is_cheap]
    if cheap:
        return max(cheap, key=lambda one: one.shift.value)
    return min(searched, key=lambda one: one.perplexity_ratio)


def _random_units(rng: np.random.Generator, width: int) -> Iterator[Float32[np.ndarray, " d_model"]]:
    for _ in range(RANDOM_DIRECTIONS):
        drawn = rng.normal(size=width)
        yield (drawn / np.linalg.norm(drawn)).astype(np.float32)
