"""Side effects of a vector: whether other dimensions, ability and refusals stay as they are, within a margin.

That a difference is not significant does not show that there is none. So each is tested for equivalence by two
one-sided tests (Schuirmann 1987) at 2.5 % each: the whole 95 % interval lies within the margin, or nothing is said.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from pipelines.estimators.estimate import Estimate
from pipelines.evaluate.results import HEADLINE, Row
from pipelines.evaluate.tasks.ability import ABILITY
from pipelines.evaluate.tasks.refusal import REFUSAL

BESIDE = (ABILITY, REFUSAL)
"""What is no dimension."""

Finding = Literal["unharmed", "moved", "cannot be told"]


@dataclass(frozen=True)
class Margins:
    """By how much something may move, either way, and still counts as unharmed."""

    nats: float
    """Of the preference in another dimension."""
    accuracy: float
    """Of accuracies and other shares, from 0 to 1."""


@dataclass(frozen=True)
class SideEffect:
    """What the vector of one dimension does to something else."""

    steered: str
    row: Row
    margin: float

    @property
    def finding(self) -> Finding:
        return equivalence(self.row.comparison.difference, self.margin)

    @property
    def name(self) -> str:
        measurement = self.row.measurement
        return measurement.metric if measurement.dimension in BESIDE else measurement.dimension


def equivalence(difference: Estimate, margin: float) -> Finding:
    """``unharmed`` where the whole interval lies within the margin, ``moved`` where all of it lies beyond."""
    if -margin < difference.low and difference.high < margin:
        return "unharmed"
    return "moved" if difference.low >= margin or difference.high <= -margin else "cannot be told"


def side_effects(rows: Sequence[Row], margins: Margins) -> list[SideEffect]:
    """Of every dimension's vector, on the preference in the other dimensions, on general ability and on refusals."""
    found = []
    for row in rows:
        steered, scored = row.condition.dimension, row.measurement.dimension
        if row.condition.kind != "vector":
            continue
        if scored in BESIDE:
            found.append(SideEffect(steered, row, margins.accuracy))
        elif row.measurement.metric == HEADLINE and scored != steered:
            found.append(SideEffect(steered, row, margins.nats))
    return found


def side_effect_table(effects: Sequence[SideEffect]) -> pd.DataFrame:
    """``side_effects.csv``."""
    return pd.DataFrame([_cells(effect) for effect in effects])


def _cells(effect: SideEffect) -> dict[str, object]:
    change, measurement = effect.row.comparison.difference, effect.row.measurement
    return {
        "steered": effect.steered, "scored": measurement.dimension, "metric": measurement.metric,
        "difference": change.value, "low": change.low, "high": change.high, "margin": effect.margin,
        "finding": effect.finding, "detectable": change.detectable, "n": change.n, "groups": measurement.n_groups,
    }  # fmt: skip


def side_effect_lines(effects: Sequence[SideEffect], margins: Margins) -> str:
    """What each vector leaves alone, one line per dimension, to be printed."""
    lines = [
        f"Other dimensions (preference within ±{margins.nats:g} nats), ability and refusals (shares within "
        f"±{margins.accuracy:g}), each by two one-sided tests of 2.5 %:"
    ]
    for steered in dict.fromkeys(effect.steered for effect in effects):
        own = [effect for effect in effects if effect.steered == steered]
        parts = []
        for finding in ("unharmed", "moved", "cannot be told"):
            names = [effect.name for effect in own if effect.finding == finding]
            parts += [f"{finding}: {', '.join(names)}"] if names else []
        lines.append(f"  {steered}: {'; '.join(parts)}")
    return "\n".join([*lines, ""])


def unharmed_cell(effects: Sequence[SideEffect], steered: str) -> str:
    """``3 of 6, 2 cannot be told``."""
    findings = [effect.finding for effect in effects if effect.steered == steered]
    unharmed, untold = findings.count("unharmed"), findings.count("cannot be told")
    return f"{unharmed} of {len(findings)}" + (f", {untold} cannot be told" if untold else "")
