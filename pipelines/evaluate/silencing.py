"""Silencing: a vector's direction taken out of what the unsteered model computes, to see whether its answers need it.

Adding a direction shows what it can do, not that the model uses it: a probe reads much that the model does not use
(Belrose et al. 2023). So the projection on the direction is brought to its mean over the model's own answers, at every
token, at the vector's layer and at every later one (Arditi et al. 2024, with the mean in place of 0 so that nothing is
added on average). Of a vector of several layers it is at each the direction of that layer, after the last one its
direction. Random directions are silenced alike, for taking anything out may harm.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Float32

from pipelines.evaluate.conditions import Condition, Subject, live
from pipelines.evaluate.equal_cost import drawn_vectors
from pipelines.evaluate.results import ALPHA, Row
from pipelines.evaluate.significance import sequential_p
from pipelines.evaluate.suite import continue_prompts
from pipelines.evaluate.tasks.task import Task
from pipelines.model_io.activations import extract_answers
from registry.vectors import Direction, SteeringVector
from serving.model.language_model import LanguageModel
from serving.steering.bank import ServedVector, SteeringBank
from serving.steering.plan import LARGEST_OFFSET, Project, SteeringPlan, TokenScope

SILENCED_DIRECTIONS = 20
"""Random directions that are silenced, at most: beyond all of them p is 1/21."""

Role = Literal["reads only", "sufficient", "necessary", "sufficient and necessary"]
"""Of a direction in a behaviour: adding it changes what is written, taking it out does, both, or neither."""


@dataclass(frozen=True, eq=False)
class SilencedCondition(Condition):
    """The unsteered model without what its states say along one direction."""

    means: tuple[float, ...] = ()
    """Of the projections on the direction, at the vector's lowest layer and at every later one."""

    def plan(self, model: LanguageModel) -> SteeringPlan:
        assert self.vector is not None
        lowest = self.vector.layers[0]
        copies = tuple(_at(self.vector, lowest + later, mean) for later, mean in enumerate(self.means))
        everywhere = TokenScope(prompt="all")
        removed = (Project(copy, 0.0, "exactly", -LARGEST_OFFSET, LARGEST_OFFSET, everywhere) for copy in copies)
        return SteeringPlan(SteeringBank(model.facts, copies), tuple(removed))


def _at(vector: ServedVector, layer: int, mean: float) -> ServedVector:
    direction = replace(direction_at(vector.vector, layer), layer=layer, scale=1.0, projection_mean=mean)
    moved = replace(vector.vector, directions=(direction,))
    return live(moved, vector.registered, f"layer-{layer}")


def direction_at(vector: SteeringVector, layer: int) -> Direction:
    """The direction that is silenced at ``layer``: of the vector's layers up to it that of the deepest."""
    return next(direction for direction in reversed(vector.directions) if direction.layer <= layer)


def silenced_conditions(
    model: LanguageModel, task: Task, subject: Subject, count: int, seed: int
) -> Iterator[SilencedCondition]:
    """The vector's direction silenced, then ``count`` random ones; none where the model answers nothing.

    Random ones are isotropic and covariance-matched by turns, as those of equal cost are.
    """
    vector = subject.champion.vector
    (answers,) = continue_prompts(model, [task], None)
    written = [(prompt, answer) for prompt, answer in zip(task.prompts, answers.texts, strict=True) if answer.strip()]
    if not written:
        return
    layers = range(vector.layers[0], model.n_layers)
    states = extract_answers(model, *map(list, zip(*written, strict=True)), layers=list(layers))
    means = {layer: states.layer(layer).mean(axis=0) for layer in layers}
    name = subject.dimension.name
    champion = subject.champion
    yield SilencedCondition("silenced", name, champion, 0.0, "", champion.reference, _projections(means, vector))
    of_layers = {layer: states.layer(layer) for layer in vector.layers}
    for number, (source, drawn) in enumerate(drawn_vectors(vector, of_layers, count, seed)):
        served = live(drawn, champion.registered, f"silenced-{number}")
        yield SilencedCondition("silenced random", name, served, 0.0, "", source, _projections(means, drawn))


def _projections(means: Mapping[int, Float32[np.ndarray, " d_model"]], vector: SteeringVector) -> tuple[float, ...]:
    return tuple(float(mean.astype(np.float64) @ direction_at(vector, layer).unit) for layer, mean in means.items())


@dataclass(frozen=True, eq=False)
class Silencing:
    """What the unsteered model's answers become without a vector's direction."""

    row: Row
    controls: tuple[Row, ...]
    """Random directions silenced alike, in the order in which they were drawn; none where the row may be chance."""
    p: float
    """Of the change, adjusted for the number of dimensions (Holm)."""

    @property
    def random_p(self) -> float:
        """Exact, were the vector's direction one of the random ones: by the first of them that changed as much."""
        return sequential_p([is_as_far(control, self.row) for control in self.controls])

    @property
    def is_necessary(self) -> bool:
        """Whether the answers change beyond chance, and further than without any of enough random directions."""
        return is_beyond_chance(self.row, self.p) and self.random_p < ALPHA


def is_beyond_chance(row: Row, p: float) -> bool:
    """Either way: a direction may carry the trustworthy answers or the untrustworthy ones."""
    change = row.comparison.difference
    return p < ALPHA and (change.low > 0 or change.high < 0)


def is_as_far(control: Row, row: Row) -> bool:
    """Whether a control changed the share of untrustworthy answers at least as much, the same way."""
    change, other = row.comparison.difference.value, control.comparison.difference.value
    return other >= change if change > 0 else other <= change


def any_as_far(controls: Sequence[Row], row: Row) -> bool:
    return any(is_as_far(control, row) for control in controls)


def role_of(works: bool, is_necessary: bool) -> Role:
    if works:
        return "sufficient and necessary" if is_necessary else "sufficient"
    return "necessary" if is_necessary else "reads only"
