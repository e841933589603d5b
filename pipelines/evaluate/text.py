"""Verdicts of text: what a model writes under a vector, beside random directions that cost as much.

Every direction answers the same prompts as the vector, so that under the null that the vector is one of them their
order is exact: beyond all of ``n`` it has p = 1 / (n + 1). Directions are drawn until one does as much as the vector
(Besag and Clifford 1991): no later one could make it work, and the p-value, 1 over the draws, stays exact.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np

from pipelines.behaviours.form import AnswerForms, FormChange, form_change
from pipelines.calibrate.effects import CHEAP
from pipelines.evaluate.conditions import Condition, Subject
from pipelines.evaluate.equal_cost import EqualCostCondition, ProseCost, equal_cost_conditions, states_of, vector_cost
from pipelines.evaluate.failings import CHANCE, OTHER_FORM, TOO_COSTLY, random_failing, unmet
from pipelines.evaluate.measurement import Measurement
from pipelines.evaluate.results import ALPHA, Row, rows_named, rows_of
from pipelines.evaluate.significance import holm, sequential_p
from pipelines.evaluate.silencing import (
    SILENCED_DIRECTIONS,
    Role,
    Silencing,
    any_as_far,
    is_beyond_chance,
    role_of,
    silenced_conditions,
)
from pipelines.evaluate.suite import request_for
from pipelines.evaluate.tasks.behaviour import ANSWERS, BEHAVIOUR, LENGTH, NAMES, REPETITION
from pipelines.evaluate.tasks.task import Task, TaskReading
from pipelines.model_io.continuations import written_answers
from registry.verdicts import TextVerdict
from serving.model.language_model import LanguageModel

OTHER_CONDITIONS = 6
"""Unsteered, and again for the mean projection; the vector, reversed, silenced, and an instruction."""
FEWEST_PROMPTS, FEWEST_DIRECTIONS = 100, 20
"""Of a design by which a vector that does not work loses its place: from 20 directions on p may be below .05."""
DRAWN_AT_ONCE = 13
"""Directions whose answers one engine writes; after each lot it is seen whether one did as much as the vector."""


@dataclass(frozen=True, eq=False)
class TextDesign:
    """Which dimensions are judged by what is written, and against how many random directions."""

    subjects: tuple[Subject, ...]
    prose: tuple[str, ...]
    """On which costs are told and made equal: as much of it however few ``items`` are asked for."""
    directions: int
    seed: int

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(subject.dimension.name for subject in self.subjects)

    @property
    def total(self) -> int:
        """Random directions, if none of them does as much as a vector."""
        return (self.directions + 1 + self.silenced_directions) * len(self.subjects)

    @property
    def silenced_directions(self) -> int:
        """Random directions that are silenced, at most."""
        return min(self.directions, SILENCED_DIRECTIONS)

    def cost_sentence(self, tasks: Sequence[Task]) -> str:
        """How many answers are written for the verdict; nothing where there is none."""
        prompts = [len(task.prompts) for task in tasks if task.name == BEHAVIOUR]
        if not prompts:
            return ""
        return (
            f"What is written is judged on {', '.join(map(str, prompts))} prompts ({', '.join(self.names)}): up to "
            f"{sum(prompts) * (self.directions + self.silenced_directions + OTHER_CONDITIONS):,} answers, fewer where "
            "a random direction does as much as the vector.\n"
        )

    def perplexity_ratios(self, cost: ProseCost) -> dict[str, float]:
        """By dimension, the perplexity of prose under the vector that is judged over that of the unsteered model."""
        return {subject.dimension.name: math.exp(vector_cost(subject, cost)) for subject in self.subjects}

    def control_rows(
        self, cost: ProseCost, tasks: Sequence[Task], rows: Sequence[Row], on_direction: Callable[[], object]
    ) -> Iterator[Row]:
        """The behaviour under random directions of equal cost, for every dimension that is judged by text."""
        background = states_of(self.subjects, cost.model)
        for subject in self.subjects:
            name, states = subject.dimension.name, background.of(subject.champion.vector.layers)
            task = _behaviour(tasks, name)
            base, vector = (_headline(rows, kind, name) for kind in ("base", "vector"))
            conditions = equal_cost_conditions(subject, cost, states, self.directions, self.seed)
            while lot := list(islice(conditions, DRAWN_AT_ONCE)):
                controls = list(_control_rows(cost.model, task, lot, base.measurement, on_direction))
                yield from controls
                if any(is_as_good(control, vector) for control in controls):
                    break

    def silenced_rows(
        self, model: LanguageModel, tasks: Sequence[Task], rows: Sequence[Row], on_direction: Callable[[], object]
    ) -> Iterator[Row]:
        """The behaviour without each vector's direction; without random ones where that changed it beyond chance."""
        for subject in self.subjects:
            name = subject.dimension.name
            task, base = _behaviour(tasks, name), _headline(rows, "base", name).measurement
            conditions = silenced_conditions(model, task, subject, self.silenced_directions, self.seed)
            for row in _control_rows(model, task, list(islice(conditions, 1)), base, on_direction):
                yield row
                while is_beyond_chance(row, row.comparison.p) and (lot := list(islice(conditions, DRAWN_AT_ONCE))):
                    controls = list(_control_rows(model, task, lot, base, on_direction))
                    yield from controls
                    if any_as_far(controls, row):
                        break


def _behaviour(tasks: Sequence[Task], dimension: str) -> Task:
    return next(task for task in tasks if task.name == BEHAVIOUR and task.dimension == dimension)


def _control_rows(
    model: LanguageModel,
    task: Task,
    conditions: Sequence[Condition],
    base: Measurement,
    on_direction: Callable[[], object],
) -> Iterator[Row]:
    plans = [condition.plan(model) for condition in conditions]
    requests = [[request_for(model, prompt, task, plan) for prompt in task.prompts] for plan in plans if plan]
    nothing = np.empty(0), np.empty(0, np.int64)
    for condition, answers in zip(conditions, written_answers(model, requests, on_direction), strict=True):
        reading = TaskReading(*nothing, answers, task.clean_answers)
        measured = [each for each in task.measure(reading) if each.metric == ANSWERS]
        yield from rows_of(condition, [base], measured)


def is_as_good(control: Row, vector: Row) -> bool:
    """Whether a control lowered the share of untrustworthy answers at least as much."""
    return control.comparison.difference.value <= vector.comparison.difference.value


@dataclass(frozen=True, eq=False)
class TextResult:
    """What a dimension's vector does to what is written after prompts that neither it nor its calibration had."""

    dimension: str
    behaviour: str
    base: Row
    vector: Row
    controls: tuple[Row, ...]
    """Random directions of equal cost, in the order in which they were drawn."""
    p: float
    """Of the change from the unsteered model, adjusted for the number of dimensions (Holm)."""
    perplexity_ratio: float
    form: FormChange
    """From the unsteered answers to the steered ones."""
    silencing: Silencing | None = None
    """``None`` where the model answers nothing."""

    @property
    def beats_random(self) -> bool:
        """Whether it lowers the share further than every random direction does."""
        return bool(self.controls) and not any(is_as_good(control, self.vector) for control in self.controls)

    @property
    def random_p(self) -> float:
        """Exact, were the vector one of the random directions: by the first of them that did as much."""
        return sequential_p([is_as_good(control, self.vector) for control in self.controls])

    @property
    def is_cheap(self) -> bool:
        return self.perplexity_ratio <= CHEAP

    @property
    def failings(self) -> tuple[str, ...]:
        """Why it does not work."""
        random = random_failing(len(self.controls), is_beaten=bool(self.controls) and not self.beats_random)
        return unmet(
            {
                CHANCE: self.p < ALPHA and self.vector.comparison.difference.high < 0,
                random: self.beats_random and self.random_p < ALPHA,
                TOO_COSTLY: self.is_cheap,
                OTHER_FORM: self.form.is_kept,
            }
        )

    @property
    def works(self) -> bool:
        """Whether fewer answers are untrustworthy, of the same form, beyond chance and random ones, at little cost."""
        return not self.failings

    @property
    def is_shown_not_to_work(self) -> bool:
        """Whether it does not, by a design that could have shown that it does."""
        beaten = any(is_as_good(control, self.vector) for control in self.controls)
        enough = beaten or len(self.controls) >= FEWEST_DIRECTIONS
        return not self.works and enough and self.vector.comparison.difference.n >= FEWEST_PROMPTS

    @property
    def is_decided(self) -> bool:
        """Whether its version may say whether it works: a smaller look can show neither."""
        return self.works or self.is_shown_not_to_work

    @property
    def role(self) -> Role | None:
        """Of the direction in what the model writes; ``None`` where it was not silenced."""
        return None if self.silencing is None else role_of(self.works, self.silencing.is_necessary)

    def to_verdict(self, run_id: str) -> TextVerdict:
        verdict = self._steered_verdict(run_id)
        if self.silencing is None:
            return verdict
        silenced = self.silencing.row.comparison
        return replace(
            verdict,
            role=self.role or "",
            silenced=silenced.value.value,
            silenced_change=silenced.difference.value,
            silenced_low=silenced.difference.low,
            silenced_high=silenced.difference.high,
            silenced_detectable=silenced.difference.detectable,
            silenced_p=self.silencing.p,
            silenced_random_directions=len(self.silencing.controls),
            silenced_random_p=self.silencing.random_p,
        )

    def _steered_verdict(self, run_id: str) -> TextVerdict:
        change, value = self.vector.comparison.difference, self.vector.comparison.value
        conditions = [control.condition for control in self.controls]
        costs = [each.perplexity_ratio for each in conditions if isinstance(each, EqualCostCondition)]
        return TextVerdict(
            works=self.works,
            behaviour=self.behaviour,
            strength=self.vector.condition.strength,
            unsteered=self.base.comparison.value.value,
            steered=value.value,
            change=change.value,
            change_low=change.low,
            change_high=change.high,
            detectable=change.detectable,
            worse=self.vector.comparison.worse or 0.0,
            n=change.n,
            p=self.p,
            random_directions=len(self.controls),
            best_random=min((control.comparison.difference.value for control in self.controls), default=0.0),
            random_p=self.random_p,
            perplexity_ratio=self.perplexity_ratio,
            random_perplexity_low=min(costs, default=1.0),
            random_perplexity_high=max(costs, default=1.0),
            run_id=run_id,
            **self.form.as_fields(),
        )


def text_results(rows: Sequence[Row], costs: Mapping[str, float]) -> list[TextResult]:
    """One for each dimension of ``costs``: what its vector's perplexity is times the unsteered model's."""
    names = list(costs)
    vectors = [_headline(rows, "vector", name) for name in names]
    adjusted = holm([vector.comparison.p for vector in vectors])
    silencings = _silencings(rows, names)
    return [
        TextResult(
            dimension=name,
            behaviour=NAMES[name],
            base=_headline(rows, "base", name),
            vector=vector,
            controls=tuple(rows_named(rows, "equal cost", name, ANSWERS)),
            p=p,
            perplexity_ratio=costs[name],
            form=_form_change(rows, name),
            silencing=silencings.get(name),
        )
        for name, vector, p in zip(names, vectors, adjusted, strict=True)
    ]


def _silencings(rows: Sequence[Row], names: Sequence[str]) -> dict[str, Silencing]:
    silenced = {name: row for name in names for row in rows_named(rows, "silenced", name, ANSWERS)}
    adjusted = holm([row.comparison.p for row in silenced.values()])
    return {
        name: Silencing(row, tuple(rows_named(rows, "silenced random", name, ANSWERS)), p)
        for (name, row), p in zip(silenced.items(), adjusted, strict=True)
    }


def _form_change(rows: Sequence[Row], dimension: str) -> FormChange:
    def forms(kind: str) -> AnswerForms:
        repetition, tokens = (
            next(rows_named(rows, kind, dimension, metric)).measurement for metric in (REPETITION, LENGTH)
        )
        return AnswerForms(repetition.columns[:, 0], tokens.columns[:, 0])

    groups = next(rows_named(rows, "base", dimension, LENGTH)).measurement.groups
    return form_change(forms("base"), forms("vector"), groups)


def _headline(rows: Sequence[Row], kind: str, dimension: str) -> Row:
    return next(rows_named(rows, kind, dimension, ANSWERS))
