"""The comparison, from a user's options to tables and figures of several series."""

from collections.abc import Sequence

from pipelines.compare.comparison import SeriesComparison, compare
from pipelines.compare.figures import comparison_figure
from pipelines.compare.options import CompareOptions
from pipelines.compare.series import ProbedSeries, require_comparable, shared_dimensions
from pipelines.compare.tables import compare_table, onset_table
from pipelines.compare.tracking import probed_series
from pipelines.estimators.onsets import step_text
from pipelines.tracking.artifacts import log_figures, log_tables
from pipelines.tracking.conclusion import Conclusion, conclude
from pipelines.tracking.runs import entry_point_run
from registry.counts import counted

HEADER = ("dimension", "last shared step", "mean [95 % over series]", "mean [95 % over statements]", "onsets", "median")


def run_comparing(options: CompareOptions) -> None:
    """Compare, log, and print what differs between series and what between statements."""
    with entry_point_run(f"compare {', '.join(options.models)}"[:200], options.params()) as run:
        series = probed_series(options.models)
        require_comparable(series)
        comparisons = [compare(dimension, series) for dimension in shared_dimensions(series)]
        log_tables({"compare.csv": compare_table(comparisons), "onsets.csv": onset_table(comparisons)})
        figures = {f"{each.dimension}_comparison": comparison_figure(each) for each in comparisons}
        log_figures(figures, options.figures, preview=next(iter(figures)))
        print("\n".join(left_out(series)))  # noqa: T201
        rows = [_row(comparison) for comparison in comparisons]
        for row in (HEADER, *rows):
            print("  ".join(f"{cell:<{width}}" for cell, width in zip(row, _widths(rows), strict=True)))  # noqa: T201
        names = ", ".join(each.name for each in series)
        conclude(
            run,
            Conclusion(
                verdict=f"{counted(len(comparisons), 'dimension')} over {len(series)} series: {names}.",
                header=HEADER,
                rows=tuple(rows),
            ),
        )


def left_out(series: Sequence[ProbedSeries]) -> list[str]:
    """A line for each checkpoint and each dimension that is not compared."""
    lines = [f"{each.name}: left out {entry}" for each in series for entry in each.left_out]
    shared = shared_dimensions(series)
    for each in series:
        others = [name for name in each.curves if name not in shared]
        lines += [f"{each.name}: left out {', '.join(others)}: not probed in every run"] if others else []
    return lines


def _row(comparison: SeriesComparison) -> tuple[str, ...]:
    onsets = "; ".join(str(curve.onset) for curve in comparison.curves.values())
    median = comparison.onset
    step, low, high = map(step_text, (median.step, median.low, median.high))
    interval = f"{step} [{low}, {high}], {100 * median.confidence:.0f} %, n = {median.n}"
    if not comparison.bands:
        return comparison.dimension, "none", "", "", onsets, interval
    last = comparison.bands[-1]
    return (
        comparison.dimension,
        f"{last.step:,}",
        f"{last.between_series}, n = {last.between_series.n}",
        f"{last.between_statements}, n = {last.between_statements.n}",
        onsets,
        interval,
    )


def _widths(rows: Sequence[tuple[str, ...]]) -> list[int]:
    return [max(len(cell) for cell in column) for column in zip(HEADER, *rows, strict=True)]
