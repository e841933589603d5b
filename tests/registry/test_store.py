"""The stores on SQLite."""

import shutil
import sqlite3
import sys
from pathlib import Path

import mlflow
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from store_behaviour import StoreBehaviour, register

from pipelines.tracking.runs import entry_point_run
from registry.errors import CorruptFile, Unavailable
from registry.store import VectorStore


class TestOnSqlite(StoreBehaviour):
    pass


def test_a_registry_that_does_not_answer_is_said_in_a_sentence(tracking, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    mlflow.set_tracking_uri("http://127.0.0.1:9")
    mlflow.set_registry_uri("http://127.0.0.1:9")
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:9 does not answer"):
        VectorStore().list("tiny")


def test_a_file_that_is_no_database_is_said_in_a_sentence(tracking, tmp_path):
    broken = tmp_path / "broken.db"
    broken.write_bytes(b"no database " * 1000)
    mlflow.set_tracking_uri(f"sqlite:///{broken}")
    mlflow.set_registry_uri(f"sqlite:///{broken}")
    with pytest.raises(Unavailable, match=r"broken\.db does not answer: .*not a database"):
        VectorStore().list("tiny")


def test_a_database_that_a_killed_process_left_half_made_is_said_to_be_that(tracking, tmp_path):
    with sqlite3.connect(tmp_path / "half.db") as half:
        half.execute("CREATE TABLE trace_info (a)")
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'half.db'}")
    mlflow.set_registry_uri(f"sqlite:///{tmp_path / 'half.db'}")
    with pytest.raises(Unavailable, match=r"half\.db does not answer: .*already exists; it was left half made"):
        VectorStore().list("tiny")
    with pytest.raises(Unavailable, match=r"left half made"), entry_point_run("probe tiny", {}):
        pass


def test_files_that_are_gone_are_said_in_a_sentence(tracking, tmp_path):
    registered = register()
    shutil.rmtree(tmp_path / "artifacts")
    with pytest.raises(CorruptFile, match=r"no vector\.safetensors"):
        VectorStore().load(registered)
