"""One sweep over the embedded series, computed anew, logged to a store of its own: its costs as JSON."""

import argparse
import contextlib
import io
import json
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from unittest import mock

import mlflow

from pipelines.cli.command import run_command
from pipelines.probe import experiment as probing
from pipelines.probe.__main__ import main as probe
from pipelines.probe.result import ResultStore
from tests.bench.resident import most_resident


@dataclass(frozen=True)
class SweepCosts:
    seconds: float
    processor_seconds: float
    mib: float
    """The largest resident size."""


def sweep_costs(checkpoints: str, *, log: bool) -> SweepCosts:
    with tempfile.TemporaryDirectory() as directory, mock.patch.object(probing, "ResultStore") as results:
        results.return_value = ResultStore(Path(directory) / "results")
        mlflow.set_tracking_uri(f"sqlite:///{directory}/mlflow.db")
        mlflow.create_experiment("trusttrace", artifact_location=Path(directory).as_uri())
        add = probing.UnitLog.add if log else lambda *_: ()
        with mock.patch.object(probing.UnitLog, "add", add), contextlib.redirect_stdout(io.StringIO()):
            began, worked = time.perf_counter(), time.process_time()
            if run_command(probe, ["--model", "tiny", "--checkpoints", checkpoints]):
                raise RuntimeError("the sweep failed, for the reason above")
            spent = time.perf_counter() - began, time.process_time() - worked
            return SweepCosts(*spent, most_resident() / 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoints")
    parser.add_argument("--no-log", action="store_true", help="leave out the units' runs")
    given = parser.parse_args()
    print(json.dumps(asdict(sweep_costs(given.checkpoints, log=not given.no_log))))


if __name__ == "__main__":
    main()
