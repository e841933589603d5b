"""Comparison of one dimension over several series: curves, bands and onsets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipelines.compare.series import Curve, ProbedSeries
from pipelines.estimators.estimate import Estimate, mean_of_few
from pipelines.estimators.onsets import MedianOnset, median_onset


@dataclass(frozen=True)
class Band:
    """All series at one step."""

    step: int
    between_series: Estimate
    """Their mean, with its interval over series; n counts series. Equal accuracies are equal to one statement only."""
    between_statements: Estimate
    """Their mean, with the mean of their intervals over statements; n counts statements."""


@dataclass(frozen=True, eq=False)
class SeriesComparison:
    """One dimension of several series."""

    dimension: str
    curves: Mapping[str, Curve]
    """By name of series."""
    run_ids: Mapping[str, str]
    bands: tuple[Band, ...]
    """At the steps that every series was measured at."""
    onset: MedianOnset

    @property
    def steps(self) -> tuple[int, ...]:
        """Those that any series was measured at."""
        return tuple(sorted({step for curve in self.curves.values() for step in curve.steps}))

    @property
    def tokens(self) -> tuple[int | None, ...]:
        """Seen at each of ``steps``; ``None`` where a series does not tell, or two tell different numbers."""
        told: dict[int, set[int | None]] = {step: set() for step in self.steps}
        for curve in self.curves.values():
            for step, tokens in zip(curve.steps, curve.tokens or (None,) * len(curve.steps), strict=True):
                told[step].add(tokens)
        return tuple(next(iter(counts)) if len(counts) == 1 else None for counts in told.values())


def compare(dimension: str, series: Sequence[ProbedSeries]) -> SeriesComparison:
    curves = {each.name: each.curves[dimension] for each in series}
    shared = set.intersection(*(set(curve.steps) for curve in curves.values()))
    return SeriesComparison(
        dimension=dimension,
        curves=curves,
        run_ids={each.name: each.run_id for each in series},
        bands=tuple(_band(step, [curve.at(step) for curve in curves.values()]) for step in sorted(shared)),
        onset=median_onset([curve.onset.step for curve in curves.values()]),
    )


def _band(step: int, accuracies: Sequence[Estimate]) -> Band:
    value, low, high = np.mean([(each.value, each.low, each.high) for each in accuracies], axis=0)
    return Band(
        step=step,
        between_series=mean_of_few(
            [each.value for each in accuracies],
            bounds=(0.0, 1.0),
            resolution=1 / min(each.n for each in accuracies),
        ),
        between_statements=Estimate(float(value), float(low), float(high), accuracies[0].n),
    )
