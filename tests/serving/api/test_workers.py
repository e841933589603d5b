"""Two workers on one port answer as one service, and both hear at once of promotions by a real server's webhooks."""

import json
import os
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import mlflow
import pytest

from registry.store import VectorStore
from serving.api.auth import WEBHOOK
from tests.registry.store_behaviour import emptied
from tests.serving.api.test_security import half_sent
from tests.serving.conftest import Deployment, Service, promoted

ASKED = {"prompt": "The city", "max_tokens": 4, "temperature": 0}
ADMIN = {"authorization": "Bearer a1"}
WEBHOOK_SECRET = "s3cret"


@pytest.fixture(scope="module")
def two_workers(mlflow_server, chat_model, tmp_path_factory):
    """Two versions, of which the second is served. Both workers look for others after ten minutes, or when told so."""
    with pytest.MonkeyPatch.context() as patch, emptied(mlflow_server, patch):
        deployment = Deployment(chat_model, mlflow_server)
        versions = [promoted(deployment, "toxicity", seed=seed) for seed in (1, 2)]
        running = Service(
            deployment,
            tmp_path_factory.mktemp("workers") / "log",
            TRUSTTRACE_POLL="600",
            TRUSTTRACE_WORKERS="2",
            TRUSTTRACE_WEBHOOK_SECRET=WEBHOOK_SECRET,
            TRUSTTRACE_API_KEYS="k1",
            TRUSTTRACE_ADMIN_KEY="a1",
            TRUSTTRACE_DRAIN="3",
            BENTOML_CONTAINERIZED="true",  # as in an image by `bentoml containerize`
        )
        webhook = mlflow.MlflowClient().create_webhook(
            name="trusttrace",
            url=f"{running.url}{WEBHOOK}",
            events=["model_version_alias.created"],
            secret=WEBHOOK_SECRET,
        )
        yield versions, running.await_ready()
        mlflow.MlflowClient().delete_webhook(webhook.webhook_id)
        running.stop()


def ask_all(service, times: int = 32, **body):
    """Answers to requests on connections of their own, once all workers are ready."""

    def ask(_):
        return httpx.post(f"{service.url}/v1/completions", json={**ASKED, **body}, headers=ADMIN, timeout=60)

    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(ask, range(times)))


def workers_of(service) -> set[int]:
    whole, _, _ = service.log.read_text().rpartition("\n")  # the last line may be half written
    lines = [line for line in whole.splitlines() if '"answered"' in line]
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
    (first, second), service = two_workers
    until_all(lambda reply: reply.status_code == 200 and len(workers_of(service)) == 2, service)
    steered = {"steering": {"strengths": {"toxicity": 1.0}}}
    until_all(lambda reply: applied(reply)["toxicity"][1] == second.version, service, 120, **steered)

    with httpx.Client(base_url=service.url, headers=ADMIN, timeout=30) as client:
        client.put("/v1/steering/default", json={"strengths": {"toxicity": 1.0}})
        assert [applied(reply) for reply in ask_all(service)] == [{"toxicity": (1.0, second.version)}] * 32
        client.delete("/v1/steering/default")
        assert [applied(reply) for reply in ask_all(service)] == [{}] * 32

        reference = {"ref": f"steer.mini.toxicity/{first.version}"}
        older = {"steering": {"vectors": [{**reference, "strength": 0.5}]}}
        assert {reply.status_code for reply in ask_all(service, **older)} == {404}
        client.post("/v1/steering/vectors", json=reference)
        assert [applied(reply) for reply in ask_all(service, **older)] == [{"toxicity": (0.5, first.version)}] * 32
        client.request("DELETE", "/v1/steering/vectors", json=reference)
        assert {reply.status_code for reply in ask_all(service, **older)} == {404}

    assert httpx.post(f"{service.url}{WEBHOOK}", json={}).status_code == 401
    VectorStore().promote(first, reason="test")
    until_all(lambda reply: applied(reply)["toxicity"][1] == first.version, service, **steered)


def test_metrics_count_what_both_did(two_workers):
    """Requests that no other test sends: one is counted after its answer was sent, and may be of an earlier test."""
    _, service = two_workers
    until_all(lambda reply: reply.status_code == 200 and len(workers_of(service)) == 2, service)

    def counted():
        lines = httpx.get(f"{service.url}/metrics").text.splitlines()
        wanted = 'trusttrace_requests_total{method="POST",route="/v1/completions",status="400"}'
        return next((float(line.split()[-1]) for line in lines if line.startswith(wanted)), 0.0)

    assert {reply.status_code for reply in ask_all(service, 40, prompt="")} == {400}
    deadline = time.monotonic() + 10
    while (count := counted()) < 40 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert count == 40


def test_a_killed_worker_is_replaced_unnoticed(two_workers):
    """While another one takes its place nobody is sent to it."""
    _, service = two_workers
    until_all(lambda reply: reply.status_code == 200 and len(workers_of(service)) == 2, service)
    before = workers_of(service)
    os.kill(min(before), signal.SIGKILL)
    deadline = time.monotonic() + 120
    while not workers_of(service) - before:
        assert {reply.status_code for reply in ask_all(service, 8)} == {200}
        assert time.monotonic() < deadline


def test_shutting_down_waits_for_no_client(two_workers):
    """A half-sent body, a client that reads nothing, and a stream longer than the drain. Last: it ends the service."""
    _, service = two_workers
    body = json.dumps({**ASKED, "max_tokens": 450, "ignore_eos": True, "stream": True, "n": 2}).encode()
    host, port = service.url.removeprefix("http://").split(":")
    head = (
        "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer k1\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with half_sent(service.url), socket.create_connection((host, int(port))) as deaf:
        deaf.sendall(head.encode() + body)
        time.sleep(0.5)
        began = time.monotonic()
        service.process.terminate()
        service.process.wait(40)
        assert time.monotonic() - began < 15  # a drain of 3, and the end of the process that starts the workers
