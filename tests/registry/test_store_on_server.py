"""The stores on a real MLflow server, with proxied artifacts; and several processes registering at once."""

import subprocess
import sys
import uuid
from pathlib import Path

import mlflow
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from store_behaviour import StoreBehaviour

from registry.store import CheckpointStore, VectorStore

ROOT = Path(__file__).parents[2]


@pytest.fixture
def tracking(mlflow_server, monkeypatch):
    """The server, emptied of what the last test registered."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server)
    mlflow.set_tracking_uri(mlflow_server)
    mlflow.set_registry_uri(mlflow_server)
    client = mlflow.MlflowClient()
    for model in client.search_registered_models():
        client.delete_registered_model(model.name)
    mlflow.set_experiment(f"test-{uuid.uuid4()}")
    yield mlflow_server
    while mlflow.active_run():
        mlflow.end_run()


class TestOnServer(StoreBehaviour):
    pass


def test_processes_registering_at_once_lose_and_double_nothing(tracking):
    program = "import sys; sys.path[:0] = sys.argv[2:]; from store_behaviour import register; register(sys.argv[1])"
    paths = [str(ROOT), str(Path(__file__).parent)]
    workers = [
        subprocess.Popen([sys.executable, "-c", program, f"unit-{number}", *paths], stderr=subprocess.PIPE, cwd="/tmp")
        for number in range(4)
    ]
    errors = [worker.communicate(timeout=120)[1].decode() for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0, 0, 0], errors
    assert [one.version for one in CheckpointStore().list("tiny")] == ["1"]  # all four registered this one
    versions = VectorStore().list("tiny")
    assert sorted(one.version for one in versions) == ["1", "2", "3", "4"]
    assert {one.tags["unit_digest"] for one in versions} == {f"unit-{number}" for number in range(4)}
