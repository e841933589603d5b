"""Random directions of equal cost beside the vector that is judged."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from itertools import tee

import torch

from pipelines.calibrate.equal_cost import LEAST_COST, BackgroundStates, States, drawn_directions, strengths_at_cost
from pipelines.evaluate.conditions import Condition, Subject, live
from pipelines.model_io.likelihoods import Likelihoods, ReadingCache, likelihoods
from registry.vectors import SteeringVector
from serving.model.language_model import LanguageModel


@dataclass(frozen=True, eq=False)
class ProseCost:
    """What steering one model costs on some prose."""

    model: LanguageModel
    prose: tuple[str, ...]
    cache: ReadingCache = field(default_factory=ReadingCache)

    @cached_property
    def plain(self) -> Likelihoods:
        """Read when a cost is first asked for."""
        return likelihoods(self.model, self.prose, cache=self.cache)

    def of(self, vector: SteeringVector, strength: float) -> float:
        """The logarithm of the ratio of perplexities."""
        offsets = {layer: torch.from_numpy(offset) for layer, offset in vector.offsets(strength).items()}
        steered = likelihoods(self.model, self.prose, offsets, cache=self.cache)
        return math.log(steered.perplexity / self.plain.perplexity)


@dataclass(frozen=True, eq=False)
class EqualCostCondition(Condition):
    """A random direction at the strength that costs what the vector does."""

    perplexity_ratio: float = 1.0


def vector_cost(subject: Subject, cost: ProseCost) -> float:
    """What the vector that is judged costs at its strength."""
    return cost.of(subject.champion.vector, subject.strength)


def states_of(subjects: Sequence[Subject], model: LanguageModel) -> BackgroundStates:
    """What ``model`` has on background prose at every layer that a vector of ``subjects`` steers."""
    layers = {layer for subject in subjects for layer in subject.champion.vector.layers}
    return BackgroundStates(model, tuple(sorted(layers)))


def equal_cost_conditions(
    subject: Subject, cost: ProseCost, states: States, count: int, seed: int
) -> Iterator[EqualCostCondition]:
    """``count`` random directions, isotropic and covariance-matched by turns: of the covariance of ``states``.

    These are of the vector's layers.
    """
    vector, strength = subject.champion.vector, subject.strength
    target = max(vector_cost(subject, cost), LEAST_COST)
    drawn, sought = tee(drawn_vectors(vector, states, count, seed))
    strengths = strengths_at_cost((partial(cost.of, each) for _, each in sought), target, abs(strength))
    for number, ((source, each), (found, reached)) in enumerate(zip(drawn, strengths, strict=True)):
        version = live(each, subject.champion.registered, f"equal-cost-{number}")
        yield EqualCostCondition(
            *("equal cost", subject.dimension.name, version, found),
            source=source,
            perplexity_ratio=math.exp(reached),
        )


def drawn_vectors(
    vector: SteeringVector, states: States, count: int, seed: int
) -> Iterator[tuple[str, SteeringVector]]:
    """``count`` random directions in the place of ``vector``, isotropic and covariance-matched by turns, each named.

    ``states`` are of the vector's layers.
    """
    for number, (kind, units) in enumerate(drawn_directions(states, count, seed)):
        lineage = replace(vector.lineage, method=f"{kind} random direction {number} of seed {seed}")
        drawn = vector.with_units([units[layer] for layer in vector.layers])
        yield f"{kind} {number}", replace(drawn, lineage=lineage)
