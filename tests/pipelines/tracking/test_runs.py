import fcntl
import os
import shutil
import threading
import time

import mlflow
import pytest

from pipelines.tracking.runs import code_commit, entry_point_run


@pytest.mark.parametrize(("carried", "commit"), [("c0ffee", "c0ffee"), ("", "unknown")])
def test_an_image_without_git_records_the_commit_it_carries(monkeypatch, carried, commit):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("TRUSTTRACE_COMMIT", carried)
    assert code_commit.__wrapped__() == commit


def test_a_command_waits_while_another_makes_the_database(tracking, empty_database, tmp_path):
    place, ended = tmp_path / "new", threading.Event()
    place.mkdir()
    mlflow.set_tracking_uri(f"sqlite:///{place / 'mlflow.db'}")

    def command():
        with entry_point_run("data", {}):
            ended.set()

    maker, other = os.open(place, os.O_RDONLY), threading.Thread(target=command)
    fcntl.flock(maker, fcntl.LOCK_EX)
    other.start()
    time.sleep(0.5)
    assert not list(place.iterdir())
    shutil.copy(empty_database, place / "mlflow.db")
    os.close(maker)
    other.join()
    assert ended.is_set()
