"""Timing of champions: what the commands find, and what is told of them."""

import os
import subprocess
from pathlib import Path
from types import SimpleNamespace

import mlflow
import pytest

from tests.bench import champions
from tests.bench.champions import Minutes, compare_champions, environment_in, minutes_of


def test_commands_find_nothing_that_was_computed(tmp_path, monkeypatch):
    user, own = tmp_path / "user", tmp_path / "own"
    for name in ("packages", "models", "probe", "contrast"):
        (user / name).mkdir(parents=True)
        (user / name / "file").write_text(name)
    monkeypatch.setenv("TRUSTTRACE_CACHE", str(user))
    monkeypatch.setenv("GOMP_SPINCOUNT", "0")
    made = []
    client = SimpleNamespace(create_experiment=lambda name, artifact_location: made.append((name, artifact_location)))
    monkeypatch.setattr(mlflow, "MlflowClient", lambda store: made.append(store) or client)
    environment = environment_in(own)
    cache = Path(environment["TRUSTTRACE_CACHE"])
    assert sorted(path.name for path in cache.iterdir()) == ["models", "packages"]
    assert (cache / "packages" / "file").read_text() == "packages"
    assert made == [environment["MLFLOW_TRACKING_URI"], ("trusttrace", (own / "artifacts").as_uri())]
    assert str(own) in made[0]
    assert "GOMP_SPINCOUNT" not in environment and environment["PATH"] == os.environ["PATH"]


def test_a_command_is_timed_and_its_failure_raised():
    taken = minutes_of("calibrate", "smollm2", ("--help",), dict(os.environ))
    assert taken.processor > 0 and taken.clock > 0
    with pytest.raises(subprocess.CalledProcessError):
        minutes_of("calibrate", "smollm2", ("--by", "nothing"), dict(os.environ))


def test_minutes_stand_beside_those_wanted(monkeypatch):
    given = []

    def taking(command, model, arguments, environment):
        given.append((command, model, arguments))
        return Minutes(*{"calibrate": (15.25, 22.5), "evaluate": (10.0, 19.0)}[command])

    monkeypatch.setattr(champions, "environment_in", lambda _: {})
    monkeypatch.setattr(champions, "minutes_of", taking)
    made, judged = compare_champions("smollm2")
    assert given[0][:2] == ("calibrate", "smollm2") and given[0][2][-2:] == ("--by", "text")
    assert given[1] == ("evaluate", "smollm2", ())
    assert made.measured == "15:15 minutes (22:30 of processor time)" and made.against == "20 minutes"
    assert (made.ratio, made.met, judged.ratio, judged.met) == ("0.76x", True, "1.25x", False)
