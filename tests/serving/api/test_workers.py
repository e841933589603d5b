"""Two workers on one port answer as one service."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from shutil import copy

import httpx
import pytest

from tests.serving.conftest import Service, promoted, tracked_at

ASKED = {"prompt": "The city", "max_tokens": 4, "temperature": 0}


@pytest.fixture(scope="module")
def two_workers(deployment, tmp_path_factory):
    root = tmp_path_factory.mktemp("workers")
    copy(Path(deployment.tracking_uri.removeprefix("sqlite:///")), root / "mlflow.db")
    own = replace(deployment, tracking_uri=f"sqlite:///{root / 'mlflow.db'}")
    running = Service(own, root / "log", TRUSTTRACE_WORKERS="2").await_ready()
    yield own, running
    running.stop()


def ask_all(service, times: int = 32, **body):
    """Answers to requests on connections of their own, once all workers are ready."""

    def ask(_):
        return httpx.post(f"{service.url}/v1/completions", json={**ASKED, **body}, timeout=60)

    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(ask, range(times)))


def workers_of(service) -> set[int]:
    lines = [line for line in service.log.read_text().splitlines() if '"answered"' in line]
    return {json.loads(line[line.index("{") :])["process"] for line in lines}


def until_all(holds, service, seconds=30, **body):
    deadline = time.monotonic() + seconds
    while True:
        wrong = [reply for reply in ask_all(service, **body) if not holds(reply)]
        if not wrong:
            return
        assert time.monotonic() < deadline, wrong[0].text


def applied(reply):
    return {
        vector["dimension"]: (vector["strength"], vector["version"]) for vector in reply.json()["steering"]["applied"]
    }


def test_what_is_changed_by_one_worker_holds_in_both(two_workers):
    own, service = two_workers
    until_all(lambda reply: reply.status_code == 200 and len(workers_of(service)) == 2, service)

    httpx.put(f"{service.url}/v1/steering/default", json={"strengths": {"toxicity": 1.0}})
    assert [applied(reply) for reply in ask_all(service)] == [{"toxicity": (1.0, "1")}] * 32
    httpx.delete(f"{service.url}/v1/steering/default")
    assert [applied(reply) for reply in ask_all(service)] == [{}] * 32

    with tracked_at(own.tracking_uri):
        promoted(own, "toxicity", seed=77)
    steered = {"steering": {"strengths": {"toxicity": 1.0}}}
    until_all(lambda reply: applied(reply)["toxicity"][1] == "2", service, **steered)

    reference = {"ref": "steer.mini.toxicity/1"}
    older = {"steering": {"vectors": [{**reference, "strength": 0.5}]}}
    assert {reply.status_code for reply in ask_all(service, **older)} == {404}
    httpx.post(f"{service.url}/v1/steering/vectors", json=reference, timeout=30)
    assert [applied(reply) for reply in ask_all(service, **older)] == [{"toxicity": (0.5, "1")}] * 32
    httpx.request("DELETE", f"{service.url}/v1/steering/vectors", json=reference)
    assert {reply.status_code for reply in ask_all(service, **older)} == {404}


def test_metrics_count_what_both_did(two_workers):
    _, service = two_workers
    until_all(lambda reply: reply.status_code == 200 and len(workers_of(service)) == 2, service)

    def counted():
        lines = httpx.get(f"{service.url}/metrics").text.splitlines()
        wanted = 'trusttrace_requests_total{method="POST",route="/v1/completions",status="200"}'
        return next((float(line.split()[-1]) for line in lines if line.startswith(wanted)), 0.0)

    before = counted()
    assert {reply.status_code for reply in ask_all(service, 40)} == {200}
    assert counted() == before + 40
