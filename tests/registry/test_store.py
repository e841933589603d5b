"""The stores on SQLite."""

import sys
from pathlib import Path

import mlflow
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from store_behaviour import StoreBehaviour

from registry.errors import Unavailable
from registry.store import VectorStore


class TestOnSqlite(StoreBehaviour):
    pass


def test_a_registry_that_does_not_answer_is_said_in_a_sentence(tracking, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    mlflow.set_tracking_uri("http://127.0.0.1:9")
    mlflow.set_registry_uri("http://127.0.0.1:9")
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:9 does not answer"):
        VectorStore().list("tiny")
