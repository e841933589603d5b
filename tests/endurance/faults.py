"""The registry or the disk gone, and back: what a user sees, and that nothing is lost."""

import os
import subprocess
import sys
import time
from contextlib import contextmanager, suppress

import httpx
import pytest

from registry.store import VectorStore
from tests import servers
from tests.serving.conftest import DIMENSIONS, Deployment, Service, promoted, tracked_at
from tests.small_statements import write_two_dimensions

STEERED = {"prompt": "The city", "max_tokens": 4, "steering": {"strengths": {"toxicity": 1.0}}}


@pytest.fixture
def sweep(series_directory, tmp_path):
    """Starts a sweep in a process of its own, with its output in a file."""
    data = write_two_dimensions(tmp_path / "data")
    given = ["--model", str(series_directory), "--data", str(data), "--dimensions", "toxicity,privacy", "--seeds", "2"]

    def begin(uri, **settings):
        own = {"MLFLOW_TRACKING_URI": uri, "MLFLOW_REGISTRY_URI": uri, "PYTHONPATH": str(servers.ROOT)}
        cache = {"TRUSTTRACE_CACHE": str(tmp_path / "cache")}
        with (tmp_path / "sweep.log").open("wb") as out:
            return subprocess.Popen(
                [sys.executable, "-m", "pipelines.probe", *given],
                env={**os.environ, **own, **cache, **settings},
                cwd=tmp_path,
                stdout=out,
                stderr=out,
            )

    return begin


def said(tmp_path) -> str:
    lines = (tmp_path / "sweep.log").read_text().replace("\r", "\n").splitlines()
    return next((line for line in lines if line.startswith("error: ")), "")


@contextmanager
def small_disk(path, size: str):
    """A file system of its own at ``path``, that small."""
    path.mkdir(exist_ok=True)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(path)], capture_output=True)
    if mounted.returncode:
        pytest.skip("a file system of its own can only be mounted by root")
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def fill(path) -> None:
    with suppress(OSError), (path / "ballast").open("wb") as out:
        while True:
            out.write(b"\0" * 4096)
            out.flush()


def registered(uri):
    with tracked_at(uri):
        return {(vector.name, vector.tags["unit_digest"]): vector.version for vector in VectorStore().list("mini")}


def test_a_sweep_whose_registry_goes_and_comes_back(sweep, tmp_path, say):
    port, database = servers.free_port(), f"sqlite:///{tmp_path / 'mlflow.db'}"
    short = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1"}
    with servers.mlflow_server(tmp_path, database, port=port) as uri:
        running = sweep(uri, **short)
        until(lambda: registered(uri))
    began = time.monotonic()
    assert running.wait(120) == 2
    say(f"the sweep ended {time.monotonic() - began:.0f} s after its server, saying: {said(tmp_path)!r}")
    assert f"127.0.0.1:{port} does not answer" in said(tmp_path)
    with servers.mlflow_server(tmp_path, database, port=port) as uri:
        before = registered(uri)
        running = sweep(uri)  # MLflow's own patience: seven tries
        until(lambda: len(registered(uri)) > len(before))
    time.sleep(5)
    with servers.mlflow_server(tmp_path, database, port=port) as uri:
        assert running.wait(120) == 0, (tmp_path / "sweep.log").read_text()[-2000:]
        after = registered(uri)
    say(f"begun again it went on through 5 s without a server; {len(before)} of {len(after)} vectors were there before")
    assert before.items() <= after.items()
    assert len(after) == 6


def test_a_sweep_on_a_full_disk(sweep, tmp_path, empty_database, say):
    with small_disk(tmp_path / "disk", "16m") as disk:
        (disk / "mlflow.db").write_bytes(empty_database.read_bytes())
        uri = f"sqlite:///{disk / 'mlflow.db'}"
        running = sweep(uri, TRUSTTRACE_CACHE=str(disk / "cache"))
        until(lambda: registered(uri))
        fill(disk)
        assert running.wait(120) == 2, (tmp_path / "sweep.log").read_text()[-2000:]
        before = registered(uri)
        say(f"with {len(before)} of 6 vectors registered it ended, saying: {said(tmp_path)!r}")
        assert "the disk is full" in said(tmp_path)
        (disk / "ballast").unlink()
        assert sweep(uri, TRUSTTRACE_CACHE=str(disk / "cache")).wait(120) == 0
        after = registered(uri)
        assert before.items() <= after.items()
        assert len(after) == 6


def until(holds, seconds=90) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)


def asked(service) -> tuple[int, str]:
    reply = httpx.post(f"{service.url}/v1/completions", json=STEERED, timeout=60)
    told = reply.json()
    return reply.status_code, told["steering"]["applied"][0]["version"] if reply.status_code == 200 else told["error"][
        "message"
    ]


def deployed(chat_model, uri) -> Deployment:
    deployment = Deployment(chat_model, uri)
    for place, dimension in enumerate(DIMENSIONS):
        promoted(deployment, dimension, layer=1 + place % 2, seed=place)
    return deployment


def test_a_service_whose_registry_goes_and_comes_back(chat_model, tmp_path, say):
    port, database = servers.free_port(), f"sqlite:///{tmp_path / 'mlflow.db'}"
    with servers.mlflow_server(tmp_path, database, port=port) as uri, tracked_at(uri):
        deployment = deployed(chat_model, uri)
        service = Service(deployment, tmp_path / "service.log").await_ready()
        assert asked(service) == (200, "1")
    try:
        until(lambda: not health(service)["registry"]["answers"])
        without = [asked(service) for _ in range(50)]
        problem = health(service)["problem"]
        say(f"50 requests without a registry: {set(without)}; readyz {service.readiness()}, {problem!r}")
        assert set(without) == {(200, "1")}
        with servers.mlflow_server(tmp_path, database, port=port) as uri, tracked_at(uri):
            promoted(deployment, "toxicity", seed=50)
            began = time.monotonic()
            until(lambda: asked(service) == (200, "2"))
            say(f"back, and a promoted version live after {time.monotonic() - began:.1f} s")
    finally:
        service.stop()


def health(service):
    return httpx.get(f"{service.url}/readyz").json()


def test_a_service_on_a_full_disk(chat_model, tmp_path, empty_database, say):
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    (tmp_path / "mlflow.db").write_bytes(empty_database.read_bytes())
    with small_disk(tmp_path / "scratch", "2m") as scratch, tracked_at(uri):
        deployment = deployed(chat_model, uri)
        service = Service(deployment, tmp_path / "service.log", TMPDIR=str(scratch)).await_ready()
        try:
            assert asked(service) == (200, "1")
            fill(scratch)
            promoted(deployment, "toxicity", seed=50)
            time.sleep(3)
            put = httpx.put(f"{service.url}/v1/steering/default", json={"strengths": {"privacy": 1.0}})
            problem = put.json()["error"]["message"]
            say(f"on a full disk: {asked(service)}; setting default strengths: {put.status_code}, {problem!r}")
            say(f"readyz {service.readiness()}: {health(service).get('problem')!r}")
            assert asked(service) == (200, "1")
            assert put.status_code == 503
            (scratch / "ballast").unlink()
            until(lambda: asked(service) == (200, "2"))
        finally:
            service.stop()
