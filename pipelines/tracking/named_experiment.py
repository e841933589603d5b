"""Named experiment: whether somebody chose the experiment that a command logs to."""

import os
from contextlib import suppress
from pathlib import Path

import psutil

NAMING_OPTIONS = frozenset({"--experiment-name", "--experiment-id"})
"""Of `mlflow run`."""


def experiment_is_named() -> bool:
    """Whether somebody named an experiment, by a variable or to the `mlflow run` that this process is a part of.

    `mlflow run` hands its commands the id of the experiment, whether it was chosen or not.
    """
    if "MLFLOW_EXPERIMENT_NAME" in os.environ:
        return True
    for process in psutil.Process().parents():
        with suppress(psutil.Error):
            arguments = process.cmdline()
            if "run" in arguments and any(Path(argument).name == "mlflow" for argument in arguments):
                options = {argument.partition("=")[0] for argument in arguments}
                return bool(options & NAMING_OPTIONS) or "MLFLOW_EXPERIMENT_ID" in process.environ()
    return False
