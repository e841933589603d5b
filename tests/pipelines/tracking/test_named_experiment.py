"""Named experiment: what `mlflow run` was told is read off the processes above a command."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("options", "environment", "named"),
    [
        (["--experiment-name", "Default"], {}, True),
        (["--experiment-name=Default"], {}, True),
        (["--experiment-id", "0"], {}, True),
        ([], {"MLFLOW_EXPERIMENT_ID": "0"}, True),
        (["-P", "seeds=3"], {}, False),
    ],
)
def test_an_experiment_that_mlflow_run_was_told_is_named(options, environment, named, tmp_path):
    """A stand-in for `mlflow` that starts a command as `mlflow run` does: below bash, with the experiment's id."""
    command = "from pipelines.tracking.named_experiment import experiment_is_named; print(experiment_is_named())"
    launcher = tmp_path / "mlflow"
    launcher.write_text(
        "import os, subprocess, sys\n"
        f"line = ['bash', '-c', '\"$0\" -c \"$1\"; true', sys.executable, {command!r}]\n"
        "subprocess.run(line, check=True, env={**os.environ, 'MLFLOW_EXPERIMENT_ID': '0'})\n"
    )
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_EXPERIMENT")}
    finished = subprocess.run(
        [sys.executable, launcher, "run", ".", *options],
        cwd=Path(__file__).parents[3],
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    assert finished.stdout.strip() == str(named)
