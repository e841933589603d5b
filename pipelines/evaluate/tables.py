"""Tables of an evaluation: ``evaluate.csv``, ``verdicts.csv``, ``entanglement.csv``, and the lines that are printed."""

from collections.abc import Iterator, Sequence

import pandas as pd

from pipelines.cli.columns import name_width
from pipelines.cli.pasting import mlflow_run
from pipelines.evaluate.failings import says
from pipelines.evaluate.measurement import Measurement
from pipelines.evaluate.results import ALPHA, HEADLINE, Row, Verdict
from pipelines.evaluate.side_effects import SideEffect, unharmed_cell
from pipelines.evaluate.text import TextResult
from pipelines.evaluate.text_tables import HEADER as TEXT_HEADER
from pipelines.evaluate.text_tables import cells_of
from pipelines.tracking.checkpoints import checkpoint_columns, checkpoint_table
from pipelines.tracking.conclusion import Conclusion, enumerated
from registry.checkpoints import Checkpoint
from registry.counts import counted
from registry.layers import layer_or_range, layers_text
from registry.records import RegisteredVector

UNHARMED = "unharmed: other dimensions and ability"
FEWEST_GROUPS = 6
"""With fewer no exchange of groups is rarer than 2 in 32."""

COLUMNS = checkpoint_columns(
    "condition", "kind", "steered", "source", "layer", "strength", "scored", "metric", "better",
    "value", "low", "high", "n", "groups", "difference", "difference_low", "difference_high", "detectable", "p",
    "mcnemar_p", "worse", "flag",
)  # fmt: skip


def evaluation_table(checkpoint: Checkpoint, rows: Sequence[Row]) -> pd.DataFrame:
    """``evaluate.csv``."""
    return checkpoint_table(((checkpoint, _cells(row)) for row in rows), COLUMNS)


def _cells(row: Row) -> tuple[object, ...]:
    condition, comparison, measurement = row.condition, row.comparison, row.measurement
    value, change = comparison.value, comparison.difference
    better = {1: "higher", -1: "lower", 0: "neither"}[measurement.wanted]
    steered = condition.vector is not None
    return (
        condition.name, condition.kind, condition.dimension, condition.source,
        layer_or_range(condition.vector.layers) if condition.vector else None, condition.strength if steered else None,
        measurement.dimension, measurement.metric, better, value.value, value.low, value.high,
        measurement.n, measurement.n_groups,
        change.value, change.low, change.high, change.detectable, comparison.p, comparison.mcnemar_p, comparison.worse,
        _flag(measurement),
    )  # fmt: skip


def _flag(measurement: Measurement) -> str:
    if measurement.is_constant:
        return "constant answer"
    return "too few groups for p < 0.05" if measurement.n_groups < FEWEST_GROUPS else ""


def verdict_table(verdicts: Sequence[Verdict]) -> pd.DataFrame:
    """``verdicts.csv``: whether each dimension's vector works, and the numbers that decide it."""
    return pd.DataFrame([_verdict_cells(verdict) for verdict in verdicts])


def _verdict_cells(verdict: Verdict) -> dict[str, object]:
    condition, change = verdict.row.condition, verdict.row.comparison.difference
    return {
        "dimension": verdict.dimension,
        "vector": condition.source,
        "layer": layer_or_range(condition.vector.layers) if condition.vector else None,
        "strength": condition.strength,
        "preference": change.value,
        "low": change.low,
        "high": change.high,
        "detectable": change.detectable,
        "n": change.n,
        "groups": verdict.row.measurement.n_groups,
        "p_holm": verdict.p,
        "random_max": max(verdict.random, default=None),
        "random_directions": len(verdict.random),
        "perplexity_ratio": verdict.perplexity_ratio,
        "works": verdict.works,
    }


def _largest_random(verdict: Verdict) -> str:
    return f"{max(verdict.random):z.3f}" if verdict.random else "none drawn"


def entanglement_table(table: pd.DataFrame) -> pd.DataFrame:
    """The effect of each dimension's vector on the preference of every dimension, from ``evaluate.csv``."""
    chosen = table[(table["kind"] == "vector") & (table["metric"] == HEADLINE)]
    columns = ["steered", "scored", "difference", "difference_low", "difference_high", "p", "n"]
    result: pd.DataFrame = chosen[columns].reset_index(drop=True)
    return result


def summary(verdicts: Sequence[Verdict], rows: Sequence[Row]) -> str:
    """The verdicts, one line per dimension, and below them every other metric that moved."""
    name = name_width(verdict.dimension for verdict in verdicts)
    lines = [
        f"{'dimension':<{name}} {'layer':>5} {'strength':>8}  {'preference, nats [95 %]':<26} {'detectable':>10} "
        f"{'n':>5} {'groups':>6} {'p (Holm)':>9} {'random, up to':>13} {'perplexity':>10}  works"
    ]
    lines += [_verdict_line(verdict, name) for verdict in verdicts]
    lines += ["detectable: the smallest change that so many statements show in 80 % of samples"]
    controls = ("random", "equal cost", "silenced random")
    moved = [line for row in rows if row.condition.kind not in controls for line in _moved(row)]
    constant = sorted(
        {f"  {row.condition.name}: {row.measurement.metric}" for row in rows if row.measurement.is_constant}
    )
    if moved:
        lines += ["", "Other metrics that differ from the base (interval and p < 0.05, not adjusted):", *moved]
    if constant:
        lines += ["", "Constant answers, whose accuracy says nothing:", *constant]
    return "\n".join(["", *lines, ""])


def conclusion(
    model: str,
    verdicts: Sequence[Verdict],
    texts: Sequence[TextResult] = (),
    judged: Sequence[RegisteredVector] = (),
    beside: Sequence[SideEffect] = (),
) -> Conclusion:
    """Which dimensions' vectors work: on what is written where that was judged, else on statements, all of them unseen.

    ``judged`` are the versions that carry a verdict of text.
    """
    report = mlflow_run("report", model=model)
    if texts:
        works = [result.dimension for result in texts if result.works]
        return Conclusion(
            verdict=(
                f"What {model} writes is more trustworthy in {len(works)} of {counted(len(texts), 'dimension')}"
                f"{enumerated(works)}, on prompts that nothing was fitted or calibrated on."
            ),
            header=("dimension", "works", "strength", *TEXT_HEADER, "preference, nats [95 %]", UNHARMED),
            rows=tuple((*_text_row(result, verdicts), unharmed_cell(beside, result.dimension)) for result in texts),
            vectors=tuple(judged),
            next=report,
        )
    works = [verdict.dimension for verdict in verdicts if verdict.works]
    rows = []
    for verdict in verdicts:
        change, condition = verdict.row.comparison.difference, verdict.row.condition
        effect, random = f"{change} (n = {change.n})", _largest_random(verdict)
        cost = f"{verdict.perplexity_ratio:.3f}x"
        seen = f"{change.detectable:.3f}"
        numbers = (f"{condition.strength:g}", effect, seen, f"{verdict.p:.4f}", random, cost)
        rows.append((verdict.dimension, says(verdict.failings), *numbers, unharmed_cell(beside, verdict.dimension)))
    return Conclusion(
        verdict=(
            f"Steering works in {len(works)} of {counted(len(verdicts), 'dimension')} of {model}"
            f"{enumerated(works)}, on statements that nothing was fitted or calibrated on."
        ),
        header=(
            *("dimension", "works", "strength", "preference, nats [95 %]", "detectable in 80 %", "p (Holm)"),
            *("largest of random directions", "perplexity", UNHARMED),
        ),
        rows=tuple(rows),
        next=report,
    )


def _text_row(result: TextResult, verdicts: Sequence[Verdict]) -> tuple[str, ...]:
    preference = next(
        verdict.row.comparison.difference for verdict in verdicts if verdict.dimension == result.dimension
    )
    works = says(result.failings) if result.is_decided else "cannot be told"
    return (result.dimension, works, f"{result.vector.condition.strength:g}", *cells_of(result), str(preference))


def _verdict_line(verdict: Verdict, name: int) -> str:
    row = verdict.row
    vector, change = row.condition.vector, row.comparison.difference
    where = layers_text(vector.layers) if vector else ""
    return (
        f"{verdict.dimension:<{name}} {where:>5} {row.condition.strength:>8g}  {change!s:<26} "
        f"{change.detectable:>10.3f} {change.n:>5} {row.measurement.n_groups:>6} {verdict.p:>9.4f} "
        f"{_largest_random(verdict):>13} {verdict.perplexity_ratio:>9.3f}x  "
        f"{says(verdict.failings)}"
    )


def _moved(row: Row) -> Iterator[str]:
    change, metric = row.comparison.difference, row.measurement.metric
    if metric == HEADLINE and row.condition.dimension == row.measurement.dimension and row.condition.kind == "vector":
        return
    if row.condition.kind != "base" and row.comparison.p < ALPHA and (change.low > 0 or change.high < 0):
        wanted = {1: "better", -1: "worse", 0: "moved"}[_sign(change.value) * row.measurement.wanted]
        yield (
            f"  {row.condition.dimension or row.condition.source} {row.condition.kind} -> {row.measurement.dimension} "
            f"{metric}: {row.comparison.value.value:.3f}, {change.value:+z.3f} [{change.low:+z.3f}, "
            f"{change.high:+z.3f}], n = {change.n}, {wanted}"
        )


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)
