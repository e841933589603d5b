"""Random directions of equal cost: each as strong as raises the perplexity of prose as much as a vector does.

At equal length a random direction costs a fraction of what a vector does, and beating it says little. Half of the
directions are drawn evenly from the sphere, half with the covariance of the layer's activations on prose.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
from jaxtyping import Float32, Float64

from pipelines.calibrate.candidates import Candidate
from pipelines.model_io.activations import Activations, extract
from pipelines.statements.prose import background_prose
from serving.model.language_model import LanguageModel

LEAST_COST = math.log(1.01)
"""What directions cost at least: beside a vector that costs nothing they would not be steered at all."""
TOLERANCE = 0.1
"""Of the logarithm of the perplexity ratio."""
GROWTHS, STEPS = 10, 20
LEAST_GROWTH, MOST_GROWTH = 1.1, 4.0
"""Times which a strength grows at first."""

DirectionKind = Literal["isotropic", "covariance-matched"]
States = Mapping[int, Float32[np.ndarray, "n d_model"]]
"""Activations by layer, the lowest first."""
Units = Mapping[int, Float32[np.ndarray, " d_model"]]
"""A unit vector by layer."""


@dataclass(frozen=True, eq=False)
class BackgroundStates:
    """What ``model`` has at ``layers`` on average over each sentence of background prose: read when first asked for."""

    model: LanguageModel
    layers: tuple[int, ...]

    @cached_property
    def _read(self) -> Activations:
        return extract(self.model, background_prose(), layers=self.layers, pooling="mean")

    def of(self, layers: Sequence[int]) -> States:
        return {layer: self._read.layer(layer) for layer in layers}


def random_like(candidate: Candidate, states: States, count: int, seed: int) -> Iterator[Candidate]:
    """``count`` random vectors in the place of ``candidate``, isotropic and covariance-matched by turns.

    At each of its layers they are as long as it is. ``states`` are of these layers.
    """
    lengths = {layer: float(np.linalg.norm(offset)) for layer, offset in candidate.unit_offsets.items()}
    for _, units in drawn_directions(states, count, seed):
        offsets = {layer: lengths[layer] * unit for layer, unit in units.items()}
        yield replace(candidate, label="random", unit_offsets=offsets, fitted=None, registered=None)


def drawn_directions(states: States, count: int, seed: int) -> Iterator[tuple[DirectionKind, Units]]:
    """``count`` times a unit vector for each layer, isotropic and covariance-matched by turns, with their kind.

    Layers draw apart from each other, the first of them as if it were the only one.
    """
    rngs = {layer: np.random.default_rng((seed, rank) if rank else seed) for rank, layer in enumerate(states)}
    for number in range(count):
        kind: DirectionKind = "covariance-matched" if number % 2 else "isotropic"
        yield kind, {layer: drawn_direction(states[layer], kind, rng) for layer, rng in rngs.items()}


def drawn_direction(
    states: Float32[np.ndarray, "n d_model"], kind: DirectionKind, rng: np.random.Generator
) -> Float32[np.ndarray, " d_model"]:
    """A unit vector: drawn evenly from the sphere, or from a Gaussian of the covariance of ``states``."""
    n, width = states.shape
    drawn: Float64[np.ndarray, " d_model"] = np.array(rng.standard_normal(width))
    if kind == "covariance-matched":
        drawn = np.einsum("n,nd->d", rng.standard_normal(n), states - states.mean(axis=0))
    return np.asarray(drawn / np.linalg.norm(drawn), np.float32)


def strengths_at_cost(
    costs: Iterable[Callable[[float], float]], target: float, start: float
) -> Iterator[tuple[float, float]]:
    """``strength_at_cost`` of directions of two kinds by turns: each is sought from where the last of its kind was.

    Directions of one kind cost about the same, so that most are found at the first or the second try.
    """
    starts = [start, start]
    for number, cost in enumerate(costs):
        strength, reached = strength_at_cost(cost, target, starts[number % 2])
        if _is_at(reached, target):
            starts[number % 2] = strength
        yield strength, reached


def strength_at_cost(cost: Callable[[float], float], target: float, start: float) -> tuple[float, float]:
    """The strength at which ``cost`` reaches ``target``, and what it reaches there: to within ``TOLERANCE`` of it.

    Grows ``start`` as the cost asks for, and where that did not do doubles it until the cost is beyond, then narrows
    down. Where even that is not enough, the strongest tried.
    """
    low, low_cost, high = 0.0, 0.0, start
    high_cost = cost(high)
    for number in range(GROWTHS):
        if not high_cost < target or _is_at(high_cost, target):
            break
        growth = max(_growth(target, high_cost), 2.0 if number else 0.0)
        low, low_cost, high = high, high_cost, high * growth
        high_cost = cost(high)
    for step in range(STEPS):
        if _is_at(high_cost, target) or high_cost < target:
            break
        share = 0.5 if step % 2 else (target - low_cost) / (high_cost - low_cost)
        middle = _between(low, high, share if math.isfinite(high_cost) else 0.5)
        middle_cost = cost(middle)
        if _is_at(middle_cost, target):
            return middle, middle_cost
        if middle_cost < target:
            low, low_cost = middle, middle_cost
        else:
            high, high_cost = middle, middle_cost
    return high, high_cost


def _is_at(reached: float, target: float) -> bool:
    return abs(reached - target) <= TOLERANCE * target


def _growth(target: float, reached: float) -> float:
    """Of a strength that costs too little: as the square of strength is about how cost grows."""
    return min(max(math.sqrt(target / reached), LEAST_GROWTH), MOST_GROWTH) if reached > 0 else 2.0


def _between(low: float, high: float, share: float) -> float:
    """At ``share`` of the way in squares."""
    return math.sqrt(low**2 + min(max(share, 0.1), 0.9) * (high**2 - low**2))
