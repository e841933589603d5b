"""What works on SQLite works for a team: MLflow on a server with proxied artifacts, as `compose.yaml` starts it."""

import secrets
import uuid

import httpx
import mlflow
import numpy as np
import pandas as pd
import pytest
import yaml

from pipelines.cli.command import run_command
from pipelines.probe import experiment as probing
from pipelines.probe.__main__ import main
from registry.records import RegisteredVector
from registry.store import VectorStore
from tests.pipelines.probe.test_experiment import parents, runs
from tests.registry.store_behaviour import StoreBehaviour, emptied, register, register_at_once
from tests.servers import ADMIN, ROOT
from tests.small_statements import write_statements


@pytest.fixture
def tracking(mlflow_server, monkeypatch):
    with emptied(mlflow_server, monkeypatch) as uri:
        yield uri


SEARCH = "/api/2.0/mlflow/experiments/search?max_results=1"


class TestOnServer(StoreBehaviour):
    pass


def test_processes_registering_at_once_lose_and_double_nothing(tracking):
    register_at_once(3)


def registered() -> dict[str, RegisteredVector]:
    return {vector.uri: vector for vector in VectorStore().list("mini")}


def test_a_sweep_that_fails_goes_on_as_on_sqlite(tracking, series_directory, tmp_path, cache, monkeypatch, capsys):
    data = write_statements(tmp_path / "data")
    arguments = ["--model", str(series_directory), "--data", str(data), "--dimensions", "toxicity"]
    arguments += ["--checkpoints", "10,100", "--seeds", "1"]
    real, added = probing.UnitLog.add, []

    def fail_at_the_third(*given):
        added.append(1)
        if len(added) == 3:
            raise OSError(28, "No space left on device")
        return real(*given)

    with monkeypatch.context() as patch:
        patch.setattr(probing.UnitLog, "add", fail_at_the_third)
        assert run_command(main, arguments) == 2
    first = registered()
    assert len(first) == 1  # of two units, one was a random initialisation
    assert run_command(main, arguments) == 0
    second = registered()
    assert first.keys() < second.keys()
    assert len({(vector.name, vector.tags["unit_digest"]) for vector in second.values()}) == len(second) == 2

    finished, failed = parents()
    assert (finished.info.status, failed.info.status) == ("FINISHED", "FAILED")
    assert "No space left" in failed.data.tags["trusttrace.error"]
    client, run_id = mlflow.MlflowClient(), finished.info.run_id
    assert finished.info.artifact_uri.startswith("mlflow-artifacts:")
    assert len(pd.read_csv(client.download_artifacts(run_id, "probe.csv"))) == 3 * 3 + 2 + 1
    assert len(client.list_artifacts(run_id, "figures")) == 2 * 4  # two formats; a panel of all
    assert [metric.step for metric in client.get_metric_history(run_id, "toxicity/accuracy")] == [10, 100]
    assert len(runs(f"tags.`mlflow.parentRunId` = '{run_id}'")) == 3
    champion = VectorStore().resolve("steer.mini.toxicity@champion")
    assert VectorStore().load_with_probe(champion)[1].weights.dtype == np.float32
    assert champion.uri in capsys.readouterr().out


def test_the_server_answers_by_its_names_alone(mlflow_server_on_postgresql):
    within = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]["service"]["environment"][
        "MLFLOW_TRACKING_URI"
    ]
    for host, status in ((within.removeprefix("http://"), 200), ("127.0.0.1:5000", 200), ("evil.example", 403)):
        asked = httpx.get(f"{mlflow_server_on_postgresql}{SEARCH}", headers={"Host": host}, auth=tuple(ADMIN.values()))
        assert asked.status_code == status, host


def test_nobody_looks_without_an_account(mlflow_server_on_postgresql):
    for path in ("/", SEARCH):
        assert httpx.get(f"{mlflow_server_on_postgresql}{path}").status_code == 401
        assert httpx.get(f"{mlflow_server_on_postgresql}{path}", auth=("admin", "password1234")).status_code == 401
        assert httpx.get(f"{mlflow_server_on_postgresql}{path}", auth=tuple(ADMIN.values())).status_code == 200
    assert httpx.get(f"{mlflow_server_on_postgresql}/health").status_code == 200  # of the container


def test_an_account_of_another_reads_and_promotes_nothing(mlflow_server_on_postgresql, tracking, monkeypatch):
    registered_as_admin = register()
    user = {"username": f"user-{uuid.uuid4().hex[:8]}", "password": secrets.token_hex(8)}
    made = httpx.post(f"{tracking}/api/2.0/mlflow/users/create", json=user, auth=tuple(ADMIN.values()))
    assert made.status_code == 200
    for name, value in zip(ADMIN, user.values(), strict=True):
        monkeypatch.setenv(name, value)
    assert VectorStore().load(registered_as_admin).d_model == 2
    with pytest.raises(Exception, match="(?i)permission"):
        VectorStore().promote(registered_as_admin, reason="of another")
