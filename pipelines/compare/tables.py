"""Tables of a comparison: every curve with its bands, and every onset with their median."""

from collections.abc import Sequence

import pandas as pd

from pipelines.compare.comparison import SeriesComparison

COMPARE_COLUMNS = (
    "dimension", "step", "model", "run_id", "interval_over", "accuracy", "accuracy_low", "accuracy_high", "n",
    "random_init", "ngram_floor",
)  # fmt: skip
"""``interval_over`` is ``statements`` in a series' own row. The mean of all series has two rows: one with the interval
over ``series``, one with the mean of the intervals over ``statements``."""
ONSET_COLUMNS = (
    "dimension", "model", "run_id", "onset_step", "onset_low", "onset_high", "lasts", "lost_step", "n", "confidence",
)  # fmt: skip
"""A row a series, its ``n`` the checkpoints looked at; then their median, its ``n`` the series. Empty is never."""
MEAN, MEDIAN = "mean of series", "median of series"


def compare_table(comparisons: Sequence[SeriesComparison]) -> pd.DataFrame:
    """``compare.csv``."""
    rows: list[tuple[object, ...]] = []
    for comparison in comparisons:
        for name, curve in comparison.curves.items():
            for step, accuracy in zip(curve.steps, curve.accuracies, strict=True):
                rows.append(
                    (
                        *(comparison.dimension, step, name, comparison.run_ids[name], "statements"),
                        *(accuracy.value, accuracy.low, accuracy.high, accuracy.n),
                        *(curve.random_init.value, curve.ngram_floor),
                    )
                )
        for band in comparison.bands:
            for over, mean in (("series", band.between_series), ("statements", band.between_statements)):
                values = (mean.value, mean.low, mean.high, mean.n)
                rows.append((comparison.dimension, band.step, MEAN, None, over, *values, None, None))
    return pd.DataFrame(rows, columns=list(COMPARE_COLUMNS))


def onset_table(comparisons: Sequence[SeriesComparison]) -> pd.DataFrame:
    """``onsets.csv``."""
    rows: list[tuple[object, ...]] = []
    for comparison in comparisons:
        for name, curve in comparison.curves.items():
            begun = (curve.onset.step, None, None, curve.onset.lasts, curve.onset.lost, len(curve.steps), None)
            rows.append((comparison.dimension, name, comparison.run_ids[name], *begun))
        median = comparison.onset
        interval = (median.step, median.low, median.high, None, None, median.n, median.confidence)
        rows.append((comparison.dimension, MEDIAN, None, *interval))
    table = pd.DataFrame(rows, columns=list(ONSET_COLUMNS))
    return table.astype({name: "Int64" for name in ("onset_step", "onset_low", "onset_high", "lost_step")})
