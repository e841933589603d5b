"""Faults of the hub, command by command: what passes is survived, what stays is one sentence that names the cause."""

import re

import pytest

from pipelines.cli.command import run_command
from pipelines.information.__main__ import main as information
from pipelines.probe.__main__ import main as probe
from pipelines.vectors.__main__ import main as vectors
from registry.checkpoint_store import CheckpointStore
from serving.served_model import ServedModel, started
from serving.settings import Settings
from tests.hub_server import REPO, Fault
from tests.small_statements import write_statements

WEIGHTS = "GET .*model.safetensors$"
GONE = {"X-Error-Code": "RevisionNotFound"}
COMMANDS = {
    "probe": (probe, ["--register", "none"]),
    "information": (information, ["--landmarks", "0"]),
    "vectors": (vectors, ["--methods", "mass-mean", "--controls", "0"]),
}
PASSING = {
    "listing unavailable": Fault("/refs", status=503),
    "files unavailable": Fault("/tree/", status=503),
    "configuration unavailable": Fault("GET .*config.json", status=503),
    "weights unavailable": Fault(WEIGHTS, status=503),
    "weights cut": Fault(WEIGHTS, cut=1000),
}
STAYING = {
    "gone": (Fault("/tree/", times=99, status=404, headers=GONE), r"no longer has org/mini@step100"),
    "cut": (Fault(WEIGHTS, times=99, cut=1000), r"not be reached for org/mini@step100 in 3 tries"),
    "unavailable": (Fault("/refs", times=99, status=503), r"could not be reached.*503"),
}


@pytest.fixture
def run(hub, tracking, tmp_path, monkeypatch):
    """Runs a command on the last checkpoint of the series on the hub; returns its exit code."""
    prose = ["the city of Paris is in France", "a letter is in Peru"] * 20
    monkeypatch.setattr("pipelines.vectors.experiment.background_prose", lambda: prose)
    data = write_statements(tmp_path / "data", openings=20)

    def run_it(command):
        main, more = COMMANDS[command]
        given = ["--model", REPO, "--checkpoints", "last", "--data", f"toxicity={data}", "--dimensions", "toxicity"]
        return run_command(main, [*given, *more])

    return run_it


@pytest.fixture
def served(hub):
    """Loads a service of the series; returns the trouble that it is in."""

    def load_it():
        model = ServedModel(Settings(model=REPO, precision="float32"))
        model.start()
        model._loader.join(60)
        return model.trouble

    return load_it


def refused(capsys):
    error = capsys.readouterr().err
    assert "Traceback" not in error
    return error.strip().splitlines()[-1]


@pytest.mark.parametrize("command", COMMANDS)
def test_faults_that_pass_are_survived(hub, run, command):
    hub.faults += [Fault(**vars(fault)) for fault in PASSING.values()]
    assert run(command) == 0
    assert [fault.times for fault in hub.faults] == [0] * len(PASSING)


def test_a_service_survives_faults_that_pass(hub):
    hub.faults += [Fault(**vars(fault)) for fault in PASSING.values()]
    model, engine, _ = started(Settings(model=REPO, precision="float32"))
    engine.close()
    assert (model.checkpoint.step, [fault.times for fault in hub.faults]) == (100, [0] * len(PASSING))


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(("fault", "message"), STAYING.values(), ids=STAYING)
def test_a_fault_that_stays_is_one_sentence(hub, run, capsys, command, fault, message):
    hub.faults.append(Fault(**vars(fault)))
    assert run(command) == 2
    assert re.search(message, refused(capsys))
    assert all(version.checkpoint.is_random_init for version in CheckpointStore().list("mini"))


@pytest.mark.parametrize("command", COMMANDS)
def test_a_gated_repository_is_one_sentence(hub, run, capsys, command):
    hub.gated.add(REPO)
    assert run(command) == 2
    assert f"org/mini is gated: accept its terms at {hub.url}/org/mini" in refused(capsys)
    assert all(version.checkpoint.is_random_init for version in CheckpointStore().list("mini"))


@pytest.mark.parametrize(("fault", "message"), STAYING.values(), ids=STAYING)
def test_a_service_names_the_fault_that_stays(hub, served, fault, message):
    hub.faults.append(Fault(**vars(fault)))
    part, problem = served()
    assert part == "model"
    assert re.search(message, problem)
    assert "\n" not in problem


def test_a_service_names_a_gated_repository(hub, served):
    hub.gated.add(REPO)
    part, problem = served()
    assert part == "model"
    assert f"org/mini is gated: accept its terms at {hub.url}/org/mini" in problem
