import fcntl
import os
import shlex
import shutil
import threading
import time

import mlflow
import pytest

from pipelines.tracking.runs import code_commit, entry_point_run, newest_finished, params_of


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


@pytest.mark.parametrize("value", ["tiny", "/runs/my checkpoints", "name=/runs/a b", "log:12"])
def test_a_run_is_found_by_what_a_shell_would_quote(tracking, value):
    """As `mlflow run` records it, and as the command alone does."""
    ids = []
    for recorded in (value, shlex.quote(value)):
        with entry_point_run(f"probe {value}", {"model": recorded}) as run:
            ids.append(run.info.run_id)
        newest = newest_finished("probe", [{"model": value}])
        assert newest.info.run_id == ids[-1]
        assert params_of(newest)["model"] == value
    assert newest_finished("probe", [{"model": "another one"}]) is None
