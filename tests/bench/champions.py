"""Champions by text, made from nothing and then evaluated: the minutes of two commands."""

import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from registry.cache import cache_root
from tests.bench.table import Comparison

MAKING = ("calibrate", ("--methods", "response-mean", "--layers", "12,14", "--by", "text"))
"""The layers that SmolLM2's shipped champions were chosen from."""
JUDGING = ("evaluate", ())
MINUTES_TO_MAKE, MINUTES_TO_JUDGE = 20.0, 8.0
FETCHED = ("packages", "models", "digests")
"""What the cache of the bench has of the user's: nothing that was computed."""


@dataclass(frozen=True)
class Minutes:
    """What one command took."""

    clock: float
    processor: float

    def __str__(self) -> str:
        return f"{_shown(self.clock)} minutes ({_shown(self.processor)} of processor time)"


def compare_champions(model: str) -> list[Comparison]:
    """Five dimensions by text, contrast sets included, then the verdicts of all that came out."""
    with tempfile.TemporaryDirectory() as directory:
        environment = environment_in(Path(directory))
        made, judged = (minutes_of(command, model, given, environment) for command, given in (MAKING, JUDGING))
    return [
        comparison("champions/made", f"champions of {model} by text from nothing", made, MINUTES_TO_MAKE),
        comparison("champions/judged", f"evaluation of {model} after that", judged, MINUTES_TO_JUDGE),
    ]


def environment_in(directory: Path) -> dict[str, str]:
    """Of commands that keep all that they make in ``directory``, and find nothing but what was fetched."""
    import mlflow

    for name in FETCHED:
        if (cache_root() / name).is_dir():
            shutil.copytree(cache_root() / name, directory / "cache" / name)
    store = f"sqlite:///{directory}/mlflow.db"
    mlflow.MlflowClient(store).create_experiment("trusttrace", artifact_location=(directory / "artifacts").as_uri())
    # Commands choose by themselves how threads wait.
    inherited = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"}
    return {**inherited, "TRUSTTRACE_CACHE": str(directory / "cache"), "MLFLOW_TRACKING_URI": store}


def minutes_of(command: str, model: str, given: tuple[str, ...], environment: dict[str, str]) -> Minutes:
    """Run a command of the project. Raises ``CalledProcessError`` where it fails, after what it says."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    arguments = [sys.executable, "-m", f"pipelines.{command}", "--model", model, *given]
    subprocess.run(arguments, env=environment, stdout=sys.stderr, check=True)
    clock, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return Minutes(clock / 60, processor / 60)


def comparison(key: str, what: str, taken: Minutes, wanted: float) -> Comparison:
    return Comparison(key, what, str(taken), f"{wanted:g} minutes", taken.clock / wanted, "x", at_most=1.0)


def _shown(minutes: float) -> str:
    seconds = round(60 * minutes)
    return f"{seconds // 60}:{seconds % 60:02d}"
