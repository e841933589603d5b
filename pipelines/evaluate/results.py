"""What an evaluation found: one row for each condition and metric, beside the base, and what follows of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pandas as pd

from pipelines.calibrate.effects import CHEAP
from pipelines.evaluate.conditions import Condition
from pipelines.evaluate.measurement import Measurement
from pipelines.evaluate.significance import Comparison, compare, holm

HEADLINE = "preference"
"""The metric that decides whether steering works: it was named before anything was measured."""
ALPHA = 0.05
FEWEST_GROUPS = 6
"""With fewer no exchange of groups is rarer than 2 in 32."""

COLUMNS = (
    "model", "step", "condition", "kind", "steered", "source", "layer", "strength", "scored", "metric", "better",
    "value", "low", "high", "n", "groups", "difference", "difference_low", "difference_high", "p", "mcnemar_p", "worse",
    "flag",
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One metric of one condition."""

    condition: Condition
    measured: Measurement
    found: Comparison


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
        """Whether the whole interval lies above every random direction's difference."""
        return self.row.found.difference.low > max(self.random, default=0.0)

    @property
    def is_cheap(self) -> bool:
        return self.perplexity_ratio < CHEAP

    @property
    def works(self) -> bool:
        return self.p < ALPHA and self.row.found.difference.low > 0 and self.beats_random and self.is_cheap


def rows_of(condition: Condition, base: Sequence[Measurement], measured: Sequence[Measurement]) -> Iterator[Row]:
    known = {(one.dimension, one.metric): one for one in base}
    for one in measured:
        yield Row(condition, one, compare(known[one.dimension, one.metric], one))


def verdicts(rows: Sequence[Row]) -> list[Verdict]:
    """One for each dimension that has a vector, in the order of ``rows``."""
    own = [one for one in rows if one.measured.metric == HEADLINE and one.condition.dimension == one.measured.dimension]
    champions = [one for one in own if one.condition.kind == "vector"]
    adjusted = holm([one.found.p for one in champions])
    base = next(one.found.value.value for one in rows if _is_perplexity(one) and one.condition.kind == "base")
    ratios = {
        one.condition.dimension: one.found.value.value / base
        for one in rows
        if _is_perplexity(one) and one.condition.kind == "vector"
    }
    return [
        Verdict(
            dimension=one.condition.dimension,
            row=one,
            p=p,
            random=tuple(
                other.found.difference.value
                for other in own
                if other.condition.kind == "random" and other.condition.dimension == one.condition.dimension
            ),
            perplexity_ratio=ratios[one.condition.dimension],
        )
        for one, p in zip(champions, adjusted, strict=True)
    ]


def _is_perplexity(row: Row) -> bool:
    return row.measured.metric == "perplexity"


def evaluation_table(model: str, step: int, rows: Sequence[Row]) -> pd.DataFrame:
    """``evaluate.csv``."""
    return pd.DataFrame([_cells(model, step, one) for one in rows], columns=list(COLUMNS))


def _cells(model: str, step: int, row: Row) -> tuple[object, ...]:
    condition, found, measured = row.condition, row.found, row.measured
    better = {1: "higher", -1: "lower", 0: "neither"}[measured.wanted]
    steered = condition.vector is not None
    return (
        model, step, condition.name, condition.kind, condition.dimension, condition.source,
        condition.vector.layer if condition.vector else None, condition.strength if steered else None,
        measured.dimension, measured.metric, better, found.value.value, found.value.low, found.value.high,
        measured.n, measured.n_groups,
        found.difference.value, found.difference.low, found.difference.high, found.p, found.mcnemar_p,
        found.worse, _flag(measured),
    )  # fmt: skip


def _flag(measured: Measurement) -> str:
    if measured.is_constant:
        return "constant answer"
    return "too few groups for p < 0.05" if measured.n_groups < FEWEST_GROUPS else ""


def verdict_table(found: Sequence[Verdict]) -> pd.DataFrame:
    """``verdicts.csv``: whether each dimension's vector works, and by what."""
    return pd.DataFrame([_verdict_cells(one) for one in found])


def _verdict_cells(one: Verdict) -> dict[str, object]:
    condition, change = one.row.condition, one.row.found.difference
    return {
        "dimension": one.dimension,
        "vector": condition.source,
        "layer": condition.vector.layer if condition.vector else None,
        "strength": condition.strength,
        "preference": change.value,
        "low": change.low,
        "high": change.high,
        "n": change.n,
        "groups": one.row.measured.n_groups,
        "p_holm": one.p,
        "random_max": max(one.random, default=None),
        "random_directions": len(one.random),
        "perplexity_ratio": one.perplexity_ratio,
        "works": one.works,
    }


def entanglement_table(table: pd.DataFrame) -> pd.DataFrame:
    """What each dimension's vector does to the preference of every dimension: a row a pair, from ``evaluate.csv``."""
    chosen = table[(table["kind"] == "vector") & (table["metric"] == HEADLINE)]
    columns = ["steered", "scored", "difference", "difference_low", "difference_high", "p", "n"]
    result: pd.DataFrame = chosen[columns].reset_index(drop=True)
    return result


def summary(found: Sequence[Verdict], rows: Sequence[Row]) -> str:
    """The verdicts, one line a dimension, and below them every other metric that moved."""
    lines = [
        f"{'dimension':<12} {'layer':>5} {'strength':>8}  {'preference, nats [95 %]':<26} {'n':>5} "
        f"{'groups':>6} {'p (Holm)':>9} {'random, up to':>13} {'perplexity':>10}  works"
    ]
    for one in found:
        vector, change = one.row.condition.vector, one.row.found.difference
        lines.append(
            f"{one.dimension:<12} {vector.layer if vector else '':>5} {one.row.condition.strength:>8g}  {change!s:<26} "
            f"{change.n:>5} {one.row.measured.n_groups:>6} {one.p:>9.4f} {max(one.random, default=0.0):>13.3f} "
            f"{one.perplexity_ratio:>9.3f}x  {'yes' if one.works else 'no'}"
        )
    moved = [line for row in rows if row.condition.scope != "statements" for line in _moved(row)]
    constant = sorted({f"  {one.condition.name}: {one.measured.metric}" for one in rows if one.measured.is_constant})
    if moved:
        lines += ["", "Other metrics that differ from the base (interval and p < 0.05, not adjusted):", *moved]
    if constant:
        lines += ["", "Constant answers, whose accuracy says nothing:", *constant]
    return "\n".join(["", *lines, ""])


def _moved(row: Row) -> Iterator[str]:
    change, metric = row.found.difference, row.measured.metric
    if metric == HEADLINE and row.condition.dimension == row.measured.dimension and row.condition.kind == "vector":
        return
    if row.condition.kind != "base" and row.found.p < ALPHA and (change.low > 0 or change.high < 0):
        wanted = {1: "better", -1: "worse", 0: "moved"}[_sign(change.value) * row.measured.wanted]
        yield (
            f"  {row.condition.dimension or row.condition.source} {row.condition.kind} -> {row.measured.dimension} "
            f"{metric}: {row.found.value.value:.3f}, {change.value:+.3f} [{change.low:+.3f}, {change.high:+.3f}], "
            f"n = {change.n}, {wanted}"
        )


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)
