"""Results of an evaluation: a row per condition and metric, compared with the base, and the verdict per dimension."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pipelines.calibrate.effects import CHEAP
from pipelines.evaluate.conditions import Condition
from pipelines.evaluate.failings import CHANCE, TOO_COSTLY, random_failing, unmet
from pipelines.evaluate.measurement import Measurement
from pipelines.evaluate.significance import Comparison, compare, holm

HEADLINE = "preference"
"""The metric that decides whether steering works: it was named before anything was measured."""
ALPHA = 0.05


@dataclass(frozen=True)
class Row:
    """One metric of one condition."""

    condition: Condition
    measurement: Measurement
    comparison: Comparison


@dataclass(frozen=True)
class Verdict:
    """Whether a dimension's vector works on statements that nothing was fitted or calibrated on."""

    dimension: str
    row: Row
    """The headline metric under the champion."""
    p: float
    """Adjusted for the number of dimensions (Holm)."""
    random: tuple[float, ...]
    """The same difference under random directions that move as far."""
    perplexity_ratio: float

    @property
    def beats_random(self) -> bool:
        """Whether the whole interval lies above every random direction's difference; never where none was drawn."""
        return bool(self.random) and self.row.comparison.difference.low > max(self.random)

    @property
    def is_cheap(self) -> bool:
        return self.perplexity_ratio <= CHEAP

    @property
    def failings(self) -> tuple[str, ...]:
        """Why it does not work."""
        random = random_failing(len(self.random), is_beaten=not self.beats_random and len(self.random) > 0)
        return unmet(
            {
                CHANCE: self.p < ALPHA and self.row.comparison.difference.low > 0,
                random: self.beats_random,
                TOO_COSTLY: self.is_cheap,
            }
        )

    @property
    def works(self) -> bool:
        return not self.failings


def rows_of(condition: Condition, base: Sequence[Measurement], measured: Sequence[Measurement]) -> Iterator[Row]:
    known = {(measurement.dimension, measurement.metric): measurement for measurement in base}
    for measurement in measured:
        yield Row(condition, measurement, compare(known[measurement.dimension, measurement.metric], measurement))


def rows_named(rows: Sequence[Row], kind: str, dimension: str, metric: str) -> Iterator[Row]:
    """Those of a metric of a dimension under its conditions of one kind, and under conditions of no dimension."""
    for row in rows:
        measured = row.measurement.metric == metric and row.measurement.dimension == dimension
        if measured and row.condition.kind == kind and row.condition.dimension in ("", dimension):
            yield row


def verdicts_of(rows: Sequence[Row]) -> list[Verdict]:
    """One for each dimension that has a vector, in the order of ``rows``."""
    own = [
        row
        for row in rows
        if row.measurement.metric == HEADLINE and row.condition.dimension == row.measurement.dimension
    ]
    champions = [row for row in own if row.condition.kind == "vector"]
    adjusted = holm([row.comparison.p for row in champions])
    base = next(row.comparison.value.value for row in rows if _is_perplexity(row) and row.condition.kind == "base")
    ratios = {
        row.condition.dimension: row.comparison.value.value / base
        for row in rows
        if _is_perplexity(row) and row.condition.kind == "vector"
    }
    return [
        Verdict(
            dimension=row.condition.dimension,
            row=row,
            p=p,
            random=tuple(
                other.comparison.difference.value
                for other in own
                if other.condition.kind == "random" and other.condition.dimension == row.condition.dimension
            ),
            perplexity_ratio=ratios[row.condition.dimension],
        )
        for row, p in zip(champions, adjusted, strict=True)
    ]


def _is_perplexity(row: Row) -> bool:
    return row.measurement.metric == "perplexity"
