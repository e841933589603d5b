"""Weights in the hub's cache: found, deleted when done with, and read once for their digest."""

import os
import shutil

import pytest

from registry.checkpoints import Checkpoint
from serving.model.content import _sha256, sha256_of
from serving.model.weights import discard, locate
from tests.hub_cache import fill_cache

REPO = "org/mini"


@pytest.fixture
def hub_cache(series_directory, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    return fill_cache(tmp_path, REPO, {f"step{step}": series_directory / f"step_{step:06d}" for step in (10, 100)})


def checkpoint(revision):
    return Checkpoint("mini", REPO, revision, int(revision.removeprefix("step")))


def weights(directory):
    return sorted(path.name for path in (directory / "blobs").iterdir() if path.stat().st_size > 10_000)


def test_only_the_weights_of_that_revision_are_deleted(hub_cache):
    before = locate(checkpoint("step100"))
    kept = {path.name for path in (hub_cache / "blobs").iterdir()}
    discard(checkpoint("step10"))
    gone = kept - {path.name for path in (hub_cache / "blobs").iterdir()}
    assert len(gone) == 1
    assert locate(checkpoint("step100")) == before
    assert all(path.is_file() for path in before.directory.iterdir())
    discard(checkpoint("step10"))
    discard(checkpoint("step7"))
    assert len(weights(hub_cache)) == 1


def test_weights_that_another_revision_has_too_stay(hub_cache, series_directory):
    fill_cache(hub_cache.parent, REPO, {"step1000": series_directory / "step_000010"})
    discard(checkpoint("step10"))
    assert locate(checkpoint("step1000")).originals[0].is_file()
    discard(checkpoint("step1000"))
    assert len(weights(hub_cache)) == 1


def test_a_directory_is_never_deleted(series_directory, tmp_path):
    own = shutil.copytree(series_directory, tmp_path / "mini")
    discard(Checkpoint("mini", str(own), "step_000010", 10))
    assert (own / "step_000010" / "model.safetensors").is_file()


def test_a_file_is_read_once_until_it_changes(tmp_path, monkeypatch):
    path, read = tmp_path / "w.safetensors", []
    path.write_bytes(b"one")
    digest, actual = sha256_of(path), "serving.model.content.file_sha256"
    monkeypatch.setattr(actual, lambda *_: read.append(path))
    assert sha256_of(path) == digest
    assert read == []
    monkeypatch.undo()
    path.write_bytes(b"two")
    os.utime(path, ns=(0, 1))
    assert sha256_of(path) != digest


def test_the_digest_of_a_large_file_outlives_the_process(tmp_path, cache, monkeypatch):
    monkeypatch.setattr("serving.model.content.WORTH_KEEPING", 1)
    path = tmp_path / "w.safetensors"
    path.write_bytes(b"one")
    digest = sha256_of(path)
    _sha256.cache_clear()
    monkeypatch.setattr("serving.model.content.file_sha256", lambda _: pytest.fail("read again"))
    assert sha256_of(path) == digest
    monkeypatch.undo()
    monkeypatch.setenv("TRUSTTRACE_CACHE", str(cache))
    path.write_bytes(b"three")
    assert sha256_of(path) != digest


def test_copies_in_other_formats_are_no_part_of_the_digest(series_directory, tmp_path):
    own = shutil.copytree(series_directory / "step_000010", tmp_path / "own")
    before = locate(Checkpoint("own", str(own), "main", 0)).digest()
    shutil.copy(own / "model.safetensors", own / "consolidated.safetensors")
    (own / "pytorch_model.bin").write_bytes(b"the same in another format")
    assert locate(Checkpoint("own", str(own), "main", 0)).digest() == before
