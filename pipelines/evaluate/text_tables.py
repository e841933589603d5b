"""Tables of what is written: ``text.csv``, and the lines that are printed."""

from collections.abc import Sequence
from dataclasses import asdict

import pandas as pd

from pipelines.evaluate.text import FEWEST_DIRECTIONS, FEWEST_PROMPTS, TextResult

HEADER = (
    *("untrustworthy answers", "unsteered", "steered", "change, points [95 %]", "p (Holm)"),
    *("best of random directions at equal cost", "turned worse", "perplexity"),
    *("repetition, change [95 %]", "length, times [95 %]"),
    *("change with the direction silenced, points [95 %]", "the direction"),
)


def text_table(results: Sequence[TextResult], run_id: str) -> pd.DataFrame:
    """``text.csv``: the verdict of each dimension, as its version carries it."""
    return pd.DataFrame([{"dimension": each.dimension, **asdict(each.to_verdict(run_id))} for each in results])


def cells_of(result: TextResult) -> tuple[str, ...]:
    """The cells under ``HEADER``."""
    change = result.vector.comparison.difference
    best = min((control.comparison.difference.value for control in result.controls), default=0.0)
    return (
        result.behaviour,
        f"{result.base.comparison.value.value:.1%}",
        f"{result.vector.comparison.value.value:.1%}",
        f"{100 * change.value:z.1f} [{100 * change.low:z.1f}, {100 * change.high:z.1f}] (n = {change.n})",
        f"{result.p:.4f}",
        f"{100 * best:z.1f} of {len(result.controls)} (p = {result.random_p:.3f})",
        f"{result.vector.comparison.worse or 0.0:.1%}",
        f"{result.perplexity_ratio:.3f}x",
        str(result.form.repetition),
        str(result.form.length),
        *_silenced_cells(result),
    )


def _silenced_cells(result: TextResult) -> tuple[str, str]:
    if result.silencing is None or result.role is None:
        return "–", "not silenced"
    change = result.silencing.row.comparison.difference
    interval = f"{100 * change.value:z.1f} [{100 * change.low:z.1f}, {100 * change.high:z.1f}]"
    return f"{interval}, detectable from {100 * change.detectable:.1f}", result.role


def text_summary(results: Sequence[TextResult]) -> str:
    """What each vector does to what is written, a few lines a dimension; nothing where no text decides."""
    if not results:
        return ""
    lines = ["Answers to prompts that nothing was fitted or calibrated on:"]
    for result in results:
        verdict, condition = "works" if result.works else "is not shown to work", result.vector.condition
        if result.is_shown_not_to_work:
            why = ", ".join(result.failings)
            verdict = f"does not work, so it is no champion and no strength is recommended: {why}"
        elif not result.is_decided:
            verdict += (
                f" by so few prompts or directions ({FEWEST_PROMPTS} and {FEWEST_DIRECTIONS} may), so its version stays"
            )
        lines.append(f"  {result.dimension}, strength {condition.strength:g}, {verdict}")
        lines += [f"    {name}: {cell}" for name, cell in zip(HEADER, cells_of(result), strict=True)]
        lines.append(f"    detectable: {100 * result.vector.comparison.difference.detectable:.1f} points")
    return "\n".join([*lines, "", ""])
