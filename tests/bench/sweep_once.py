"""One sweep over the embedded series, computed anew, logged to a store of its own: its costs as JSON."""

import argparse
import contextlib
import io
import json
import tempfile
import time
from pathlib import Path
from unittest import mock

import mlflow

from pipelines.cli.command import run_command
from pipelines.probe import experiment as probing
from pipelines.probe.__main__ import main as probe
from pipelines.probe.result import ResultStore
from tests.bench.resident import most_resident


def sweep_seconds(checkpoints: str, *, log: bool) -> tuple[float, float]:
    """On the clock, and of processors."""
    with tempfile.TemporaryDirectory() as directory, mock.patch.object(probing, "ResultStore") as results:
        results.return_value = ResultStore(Path(directory) / "results")
        mlflow.set_tracking_uri(f"sqlite:///{directory}/mlflow.db")
        mlflow.create_experiment("trusttrace", artifact_location=Path(directory).as_uri())
        add = probing.UnitLog.add if log else lambda *_: ()
        with mock.patch.object(probing.UnitLog, "add", add), contextlib.redirect_stdout(io.StringIO()):
            began, worked = time.perf_counter(), time.process_time()
            if run_command(probe, ["--model", "tiny", "--checkpoints", checkpoints]):
                raise RuntimeError("the sweep failed, for the reason above")
            return time.perf_counter() - began, time.process_time() - worked


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoints")
    parser.add_argument("--no-log", action="store_true", help="leave out the units' runs")
    given = parser.parse_args()
    seconds, processor_seconds = sweep_seconds(given.checkpoints, log=not given.no_log)
    costs = {"seconds": seconds, "processor_seconds": processor_seconds, "mib": most_resident() / 1024}
    print(json.dumps(costs))


if __name__ == "__main__":
    main()
