"""The stores on real MLflow servers, with proxied artifacts; and several processes registering at once."""

import pytest

from tests.registry.store_behaviour import StoreBehaviour, emptied, register_at_once
from tests.servers import postgresql_programs


@pytest.fixture
def tracking(mlflow_server, monkeypatch):
    with emptied(mlflow_server, monkeypatch) as uri:
        yield uri


if postgresql_programs() is None:  # else tests/test_on_postgresql.py asks the same of a server on PostgreSQL

    class TestOnServer(StoreBehaviour):
        pass


def test_processes_registering_at_once_lose_and_double_nothing(tracking):
    register_at_once(3)
