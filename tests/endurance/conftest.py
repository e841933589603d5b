"""For the runs of `make endurance`: what other tests start, and figures said aloud as a line each."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from tests import servers
from tests.serving.conftest import DIMENSIONS, Deployment, chat_model, deployment, promoted, tracked_at

__all__ = ["chat_model", "deployment"]

WATCH = """
import os, sys
def told(event, arguments):
    if event == "socket.connect":
        with open(os.environ["CONNECTED_TO"], "a") as out:
            out.write(f"{arguments[1]!r}\\n")
sys.addaudithook(told)
"""
"""Run by every Python process of a service: each address that a socket is connected to, on a line."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seconds", type=float, default=600.0, help="of load among hostile clients [%(default)s]")


@pytest.fixture
def say(request, capsys) -> Callable[[str], None]:
    def aloud(text: str) -> None:
        with capsys.disabled():
            print(f"\n{request.node.name}: {text}", flush=True)

    return aloud


@pytest.fixture
def team(chat_model, tmp_path) -> Iterator[tuple[Deployment, dict[str, list]]]:
    """A deployment on a tracking server, with three versions of each dimension, of which the last is champion."""
    with servers.tracking_server(tmp_path) as uri:
        deployment = replace(Deployment(chat_model, uri))
        with tracked_at(uri):
            versions = {
                dimension: [
                    promoted(deployment, dimension, layer=1 + place % 2, seed=10 * place + seed) for seed in range(3)
                ]
                for place, dimension in enumerate(DIMENSIONS)
            }
            yield deployment, versions


@pytest.fixture
def watched(tmp_path) -> tuple[dict[str, str], Callable[[], set[str]]]:
    """Settings that make a service's processes write down whom they connect to, and what they wrote."""
    (tmp_path / "watch").mkdir()
    (tmp_path / "watch" / "sitecustomize.py").write_text(WATCH)
    connected = tmp_path / "connected"
    settings = {"PYTHONPATH": f"{servers.ROOT}:{tmp_path / 'watch'}", "CONNECTED_TO": str(connected)}
    return settings, lambda: set(connected.read_text().splitlines()) if connected.exists() else set()
