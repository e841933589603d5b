"""The stores on SQLite."""

import errno
import fcntl
import os
import shutil
import sqlite3
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import mlflow
import numpy as np
import pytest
import yaml
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from mlflow.protos.databricks_pb2 import PERMISSION_DENIED
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

from pipelines.tracking.runs import entry_point_run
from registry import flavor
from registry.errors import CorruptFile, InvalidInput, Mismatch, Unavailable
from registry.serialization import LARGEST_FILE_BYTES
from registry.sqlite_files import SQLITE, in_turn, require_database
from registry.store import VectorStore
from tests.registry.store_behaviour import StoreBehaviour, register


class TestOnSqlite(StoreBehaviour):
    pass


def test_a_registry_out_of_reach_is_said_in_a_sentence(tracking, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    mlflow.set_tracking_uri("http://127.0.0.1:9")
    mlflow.set_registry_uri("http://127.0.0.1:9")
    way_out = r"127\.0\.0\.1:9 does not answer \(Connection refused\): start it there, or unset MLFLOW_TRACKING_URI"
    with pytest.raises(Unavailable, match=way_out):
        VectorStore().list("tiny")


def test_a_file_that_is_no_database_is_refused(tracking, tmp_path):
    broken = tmp_path / "broken.db"
    broken.write_bytes(b"no database " * 1000)
    mlflow.set_tracking_uri(f"sqlite:///{broken}")
    mlflow.set_registry_uri(f"sqlite:///{broken}")
    with pytest.raises(Unavailable, match=r"broken\.db does not answer: .*not a database"):
        VectorStore().list("tiny")


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("/", r"is a folder; .* sqlite:///.*/mlflow\.db$"),
        ("/text", "text is not a database"),
        ("/link", "link leads to .*, whose folder does not exist"),
        (None, "in memory is gone with this process"),
    ],
)
def test_a_place_for_no_database_is_refused_at_once(tracking, tmp_path, place, reason):
    (tmp_path / "text").write_text("experiments")
    (tmp_path / "link").symlink_to(tmp_path / "gone" / "mlflow.db")
    address = "sqlite://" if place is None else f"sqlite:///{tmp_path}{place}"
    mlflow.set_tracking_uri(address)
    mlflow.set_registry_uri(address)
    began = time.monotonic()
    with pytest.raises(Unavailable, match=reason):
        VectorStore()
    assert time.monotonic() - began < 5


def test_an_empty_file_becomes_a_database(tracking, empty_database, tmp_path):
    (tmp_path / "empty.db").touch()
    require_database(f"sqlite:///{tmp_path / 'empty.db'}")
    require_database(f"sqlite:///{empty_database}")
    require_database(f"sqlite:///{tmp_path / 'to' / 'come.db'}")
    require_database("databricks")


def test_processes_make_one_file_in_turn(tracking, tmp_path):
    address, entered = f"sqlite:///{tmp_path / 'new' / 'new.db'}", threading.Event()
    (tmp_path / "new").mkdir()

    def enter():
        with in_turn(address):
            entered.set()

    for content in (None, SQLITE):  # of a file that is being made something may be there
        if content:
            (tmp_path / "new" / "new.db").write_bytes(content)
        entered.clear()
        with fcntl_locked(tmp_path / "new"):
            other = threading.Thread(target=enter)
            other.start()
            assert not entered.wait(0.3)
        assert entered.wait(10)
        other.join()
    with in_turn(address), in_turn(address, 0.0):  # those who find it made do not wait for one another
        pass


def test_nobody_waits_for_ever_to_make_a_file(tmp_path):
    address = f"sqlite:///{tmp_path / 'new.db'}"
    with fcntl_locked(tmp_path), in_turn(address, 0.2):
        pass
    for nowhere in ("sqlite:////nonexistent/folder/a.db", "http://127.0.0.1:9"):
        with in_turn(nowhere):
            pass


@contextmanager
def fcntl_locked(folder):
    """As a process holds it that makes the tables."""
    descriptor = os.open(folder, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("address", ["foo://x/y", "sqlite://mlflow.db"])
def test_an_address_where_nothing_can_be_is_refused_with_others(tracking, address):
    mlflow.set_tracking_uri(address)
    mlflow.set_registry_uri(address)
    way_out = rf"no registry at {address}: set MLFLOW_TRACKING_URI to .* sqlite:///mlflow\.db"
    with pytest.raises(InvalidInput, match=way_out):
        VectorStore().list("tiny")
    with pytest.raises(InvalidInput, match=way_out), entry_point_run("probe tiny", {}):
        pass


def test_a_half_made_database_is_named_as_that(tracking, tmp_path):
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


@pytest.mark.parametrize(
    ("tag", "value"), [("layer", "abc"), ("checkpoint_step", "x"), ("n_train", "many"), ("layer", "")]
)
def test_a_version_with_damaged_tags_hides_no_other(tracking, caplog, tag, value):
    kept, damaged = register(), register(layer=9)
    mlflow.MlflowClient().set_model_version_tag(damaged.name, damaged.version, tag, value)
    assert VectorStore().list("tiny") == [kept]
    told = rf"{damaged.name}/{damaged.version} has a tag that cannot be read .*{value!r}.*; register it again"
    with pytest.raises(CorruptFile, match=told):
        VectorStore().resolve(f"{damaged.name}/{damaged.version}")
    assert "left out: models:/" in caplog.text


def test_a_link_among_the_files_is_said_in_a_sentence(tracking, tmp_path):
    registered = register()
    (file,) = (tmp_path / "artifacts").rglob("vector.safetensors")
    file.unlink()
    file.symlink_to("/etc/passwd")
    with pytest.raises(CorruptFile, match=rf"{registered.uri} could not be read \(\w+\); register it again"):
        VectorStore().load(registered)


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), r"\S+ is full \(No space .*or set TMPDIR to another folder"),
        (
            PermissionError(errno.EACCES, "Permission denied", "/a/b"),
            r"this user may not use /a/b \(Permission .*right",
        ),
        (OSError(errno.EROFS, "Read-only file system"), r"this user may not use the files \(Read-only"),
        (OSError(errno.EMFILE, "Too many open files"), "Too many open files; try again"),
        (MemoryError(), "no memory is left; free some"),
        (MlflowException("not yours", error_code=PERMISSION_DENIED), "may not be read: not yours; ask for the right"),
        (RuntimeError("token expired"), r"could not be read \(RuntimeError: token expired\); try again, or register"),
    ],
)
def test_trouble_of_the_machine_is_not_the_versions(tracking, monkeypatch, error, cause):
    registered = register()

    def fail(*_):
        raise error

    monkeypatch.setattr("registry.artifacts._fetch", fail)
    with pytest.raises(Unavailable, match=f"{registered.uri} .*{cause}"):
        VectorStore().load(registered)


def test_a_folder_for_scratch_that_is_gone_is_named(tracking, monkeypatch, tmp_path):
    registered = register()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    with pytest.raises(Unavailable, match=r"no folder for temporary files can be made \(.*gone.*or set TMPDIR"):
        VectorStore().load(registered)


def test_a_version_of_the_old_layout_is_read_and_steers(tracking, monkeypatch, tmp_path):
    def without_code(path, vector, probe=None, mlflow_model=None, **_ignored):
        flavor.save_model(path, vector, probe, mlflow_model)
        described = yaml.safe_load((Path(path) / "MLmodel").read_text())
        function = described["flavors"]["python_function"]
        described["flavors"]["python_function"] = {
            "loader_module": "registry.flavor",
            "data": ".",
            "env": {"virtualenv": "requirements.txt"},
        }
        described["is_signature_from_type_hint"] = False
        del described["saved_input_example_info"]
        (Path(path) / "MLmodel").write_text(yaml.safe_dump(described))
        (Path(path) / "requirements.txt").write_text("mlflow\nnumpy\nsafetensors\njaxtyping\n")
        shutil.rmtree(Path(path) / function["code"])

    with monkeypatch.context() as patch:
        patch.setattr(
            "registry.store.flavor.log_model",
            lambda name, vector, probe, **options: Model.log(
                artifact_path=None,
                name=name,
                flavor=SimpleNamespace(save_model=without_code, __name__="old"),
                vector=vector,
                probe=probe,
                model_type="steering-vector",
                **options,
            ),
        )
        registered = register()
    vector, probe = VectorStore().load_with_probe(registered)
    assert (vector.scale, probe.bias) == (2.0, 0.1)
    steered = mlflow.pyfunc.load_model(registered.uri).predict(np.zeros((1, 2), np.float32), params={"strength": 1.0})
    np.testing.assert_allclose(steered, [[1.2, 1.6]], rtol=1e-6)


def move_artifacts(location):
    """Let the registered model's files lie elsewhere, as another experiment's artifact location would have it."""
    with sqlite3.connect(mlflow.get_tracking_uri().removeprefix("sqlite:///")) as database:
        database.execute("UPDATE logged_models SET artifact_location = ?", (location,))


def test_artifacts_of_an_unknown_scheme_are_refused_with_the_cause(tracking):
    registered = register()
    move_artifacts("ipfs://user:secret@somewhere/m")
    with pytest.raises(
        Unavailable, match=r"lie at ipfs://\*\*\*@somewhere/m, and MLflow here cannot read ipfs: install"
    ):
        VectorStore().load(registered)


def test_artifacts_on_another_server_are_not_fetched(tracking):
    registered = register()
    move_artifacts("http://127.0.0.1:9/m")
    with pytest.raises(Mismatch, match=r"http://127.0.0.1:9/m, which is not the tracking server"):
        VectorStore().load(registered)


def test_a_server_whose_name_continues_ours_is_another(tracking, monkeypatch):
    registered = register()
    move_artifacts("http://127.0.0.1:90/m")
    monkeypatch.setattr("mlflow.get_tracking_uri", lambda: "http://127.0.0.1:9")
    with pytest.raises(Mismatch, match=r"http://127.0.0.1:90/m, which is not the tracking server"):
        VectorStore().load(registered)


def test_a_large_file_is_refused_before_it_is_fetched(tracking, tmp_path, monkeypatch):
    registered = register()
    (file,) = (tmp_path / "artifacts").rglob("vector.safetensors")
    with file.open("r+b") as content:
        content.truncate(LARGEST_FILE_BYTES + 1)
    monkeypatch.setattr(LocalArtifactRepository, "_download_file", None)
    with pytest.raises(CorruptFile, match=rf"toxicity/1 has {LARGEST_FILE_BYTES + 1} bytes"):
        VectorStore().load(registered)


def test_a_store_that_hangs_is_given_up_in_time(tracking, monkeypatch):
    registered, released = register(), threading.Event()
    monkeypatch.setattr(LocalArtifactRepository, "list_artifacts", lambda *_: released.wait(60) and [])
    monkeypatch.setattr("registry.artifacts.SECONDS", 0.2)
    began = time.monotonic()
    with pytest.raises(Unavailable, match=r"files of models:/steer.tiny.toxicity/1 did not come within 0.2 s"):
        VectorStore().load(registered)
    assert time.monotonic() - began < 10
    released.set()


def test_a_deadline_of_the_store_is_told_from_ours(tracking, monkeypatch):
    def refuse(*_):
        raise TimeoutError("read timed out after 5 s")

    registered = register()
    monkeypatch.setattr(LocalArtifactRepository, "list_artifacts", refuse)
    with pytest.raises(Unavailable, match=r"toxicity/1 \(read timed out after 5 s\)"):
        VectorStore().load(registered)


def test_a_read_only_database_is_named_as_that(tracking, tmp_path):
    registered = register()
    read_only = f"sqlite:///file:{tmp_path / 'mlflow.db'}?mode=ro&uri=true"
    mlflow.set_tracking_uri(read_only)
    mlflow.set_registry_uri(read_only)
    with pytest.raises(Unavailable, match=r"mlflow\.db.* cannot be written: its file is read-only"):
        VectorStore().promote(registered, reason="none")


def test_a_password_in_the_address_is_never_shown(tracking, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    mlflow.set_tracking_uri("http://user:secret@127.0.0.1:9")
    mlflow.set_registry_uri("http://user:secret@127.0.0.1:9")
    with pytest.raises(Unavailable, match=r"http://\*\*\*@127") as refused:
        VectorStore().list("tiny")
    assert "secret" not in str(refused.value)
