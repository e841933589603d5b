"""Eight processes that register at once: nothing lost, nothing twice."""

import shutil

import pytest

from tests.registry.store_behaviour import emptied, register_at_once
from tests.servers import tracking_server

PROCESSES, UNITS = 8, 10


@pytest.mark.parametrize("place", ["SQLite", "a server"])
def test_eight_processes_registering_at_once(place, tmp_path, empty_database, monkeypatch, say):
    if place == "SQLite":
        register(f"sqlite:///{shutil.copy(empty_database, tmp_path / 'mlflow.db')}", monkeypatch)
    else:
        with tracking_server(tmp_path) as uri:
            register(uri, monkeypatch)
    versions = PROCESSES * UNITS
    say(f"{PROCESSES} processes, {versions} vectors, one checkpoint: versions 1 to {versions}, each once")


def register(uri, monkeypatch):
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", uri)
    with emptied(uri, monkeypatch):
        register_at_once(PROCESSES, UNITS)
