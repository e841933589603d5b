"""Shared by tests of models: a series on a hub of this machine."""

import shutil

import pytest
from huggingface_hub import constants
from huggingface_hub.utils import _http

from serving.model import hub_calls
from tests.hub_server import REPO, STEPS, hub_server


@pytest.fixture
def hub(series_directory, tmp_path, monkeypatch, cache):
    """A series of four steps on a hub of its own; steps 0 and 1 hold the same files."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub_calls, "ATTEMPTS", 3)
    monkeypatch.setattr(_http.time, "sleep", lambda _: None)
    with hub_server() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        for step in STEPS:
            source = series_directory / f"step_{0 if step == 1 else step:06d}"
            copy = shutil.copytree(source, tmp_path / "repository" / f"step{step}")
            (copy / "README.md").write_text("card")
            server.repositories.setdefault(REPO, {})[f"step{step}"] = copy
        main = shutil.copytree(series_directory / "step_000100", tmp_path / "repository" / "main")
        server.repositories[REPO]["main"] = main
        yield server
