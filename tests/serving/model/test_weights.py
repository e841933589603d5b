"""Weights in Hugging Face's cache: found, deleted when done with, and read once for their digest."""

import os
import shutil

import pytest

from registry.checkpoints import Checkpoint
from serving.model.gguf import sha256_of
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
    return sorted(one.name for one in (directory / "blobs").iterdir() if one.stat().st_size > 10_000)


def test_only_the_weights_of_that_revision_are_deleted_and_what_is_shared_stays(hub_cache):
    before = locate(checkpoint("step100"))
    kept = {one.name for one in (hub_cache / "blobs").iterdir()}
    discard(checkpoint("step10"))
    gone = kept - {one.name for one in (hub_cache / "blobs").iterdir()}
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


def test_a_file_is_read_once_for_its_digest_until_it_changes(tmp_path, monkeypatch):
    path, read = tmp_path / "w.safetensors", []
    path.write_bytes(b"one")
    digest, actual = sha256_of(path), "serving.model.gguf.hashlib.file_digest"
    monkeypatch.setattr(actual, lambda *_: read.append(path))
    assert sha256_of(path) == digest
    assert read == []
    monkeypatch.undo()
    path.write_bytes(b"two")
    os.utime(path, ns=(0, 1))
    assert sha256_of(path) != digest
