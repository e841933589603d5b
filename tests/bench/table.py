"""What was measured beside what, as one table: printed, and logged to MLflow."""

import os
import platform
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import torch
import transformers

Unit = Literal["x", "%", "points", "ms"]
EXPERIMENT = "trusttrace-bench"


@dataclass(frozen=True)
class Comparison:
    """One row: two measurements of one run, what one is of the other, and what is wanted of that."""

    key: str
    """Its metric's name in MLflow."""
    what: str
    measured: str
    against: str
    value: float
    """Times, percent more, percentage points or milliseconds."""
    unit: Unit
    at_least: float | None = None
    at_most: float | None = None
    interval: tuple[float, float] | None = None

    @classmethod
    def more(
        cls, key: str, what: str, measured: str, against: str, ratio: Sequence[float], *, at_most: float
    ) -> "Comparison":
        """In percent more, by a ratio and the ends of its interval."""
        percent, low, high = (100 * (each - 1) for each in ratio)
        return cls(key, what, measured, against, percent, "%", at_most=at_most, interval=(low, high))

    @property
    def met(self) -> bool | None:
        """Whether it is as wanted; None where nothing is wanted."""
        if self.at_least is None and self.at_most is None:
            return None
        return (self.at_least is None or self.value >= self.at_least) and (
            self.at_most is None or self.value <= self.at_most
        )

    @property
    def ratio(self) -> str:
        shown = self._shown(self.value)
        return shown if self.interval is None else f"{shown} [{', '.join(self._shown(end) for end in self.interval)}]"

    @property
    def wanted(self) -> str:
        bounds = {"at least": self.at_least, "at most": self.at_most}
        words = ", ".join(f"{word} {bound:g}{self._suffix}" for word, bound in bounds.items() if bound is not None)
        return f"{words}: **missed**" if self.met is False else words

    @property
    def _suffix(self) -> str:
        return self.unit if self.unit == "x" else f" {self.unit}"

    def _shown(self, value: float) -> str:
        return f"{value:.2f}x" if self.unit == "x" else f"{value:+.1f}{self._suffix}"


def as_markdown(rows: Sequence[Comparison]) -> str:
    lines = ["| what | measured | against | ratio | wanted |", "|---|---|---|---|---|"]
    lines += [f"| {row.what} | {row.measured} | {row.against} | {row.ratio} | {row.wanted} |" for row in rows]
    return "\n".join(lines)


def log_to_mlflow(rows: Sequence[Comparison]) -> str:
    """A run of its own with a metric a row, the table, and what it was measured on; the run's id."""
    import mlflow
    import pandas as pd

    mlflow.set_experiment(EXPERIMENT)
    with mlflow.start_run(run_name="bench") as run:
        mlflow.log_params(machine())
        mlflow.log_metrics({row.key: row.value for row in rows})
        mlflow.log_text(as_markdown(rows), "bench.md")
        frame = pd.DataFrame([{**asdict(row), "met": row.met} for row in rows])
        mlflow.log_text(frame.to_csv(index=False), "bench.csv")
        return str(run.info.run_id)


def machine() -> dict[str, str | int]:
    """What the measurements depend on besides the code."""
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count() or 0,
        "torch_threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
    }


def _cpu() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            return next(_names(lines), platform.processor())
    except OSError:
        return platform.processor()


def _names(lines: Iterable[str]) -> Iterator[str]:
    return (found.group(1) for line in lines if (found := re.match(r"model name\s*:\s*(.+)", line)))
