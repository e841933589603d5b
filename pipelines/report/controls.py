"""Controls of probing: whether an accuracy of ``probe.csv`` lies above them, by intervals, as `probe` says it."""

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from pipelines.report.tracking import ReportedRun


@dataclass(frozen=True)
class ProbeControls:
    """The upper ends of the 95 % intervals of the controls, over all splits."""

    ngram_floor: Mapping[str, float]
    """By dimension."""
    random_init: Mapping[tuple[str, int], float]
    """By dimension and layer."""

    @classmethod
    def of(cls, run: ReportedRun) -> "ProbeControls":
        """From ``controls.csv``, which probing logs beside its table; empty where a run has none."""
        table = run.tables.get("controls.csv", pd.DataFrame(columns=["control", "seed"]))
        over_all = table[table["seed"].isna()]
        floors, initial = (over_all[over_all["control"] == name] for name in ("ngram_floor", "random_init"))
        return cls(
            {str(row.dimension): float(row.accuracy_high) for row in floors.itertuples()},
            {(str(row.dimension), int(row.layer)): float(row.accuracy_high) for row in initial.itertuples()},
        )

    def are_beaten(self, row: pd.Series) -> bool | None:
        """Whether the interval of a choice lies above both; ``None`` where a control has no interval.

        The random initialisation is that of the same choice where the row tells it, in older runs of the same layer.
        """
        dimension = str(row["dimension"])
        initial = row.get("random_init_high")
        if initial is None or pd.isna(initial):
            initial = self.random_init.get((dimension, int(row["layer"])))
        floor = self.ngram_floor.get(dimension)
        return None if initial is None or floor is None else bool(row["accuracy_low"] > max(initial, floor))
