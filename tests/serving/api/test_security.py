"""Hostile requests against the real service: nobody takes it, its log or its secrets from the others."""

import json
import logging
import socket
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import httpx
import mlflow
import pytest

from serving.logs import LogFormatter
from serving.model.chat_templates import CHAT_TEMPLATES
from tests.serving.api.test_http import PROMPT
from tests.serving.api.test_lifecycle import registry, serving
from tests.serving.listening import listening

__all__ = ["registry"]

SECRET = "my SSN is 078-05-1120"


@pytest.fixture(scope="module")
def keyed(deployment):
    """The address of an application with keys, an allowed origin, and little patience."""
    settings = {
        "api_keys": ("k1", "k2"),
        "admin_key": "a1",
        "allowed_origins": ("https://chat.example",),
        "body_timeout": 2,
        "slots": 2,
        "queue_limit": 6,
        "drain": 3,
        "poll": 600,
    }
    with listening(deployment, **settings) as url:
        yield url


def ask(url, key="k1", **body):
    headers = {"authorization": f"Bearer {key}"} if key else {}
    body = {"prompt": PROMPT, "max_tokens": 2, "temperature": 0, **body}
    return httpx.post(f"{url}/v1/completions", json=body, headers=headers, timeout=60)


def half_sent(url, key="k1"):
    """A connection on which a body of 1000 bytes was announced and 10 were sent."""
    host, port = url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)), timeout=30)
    head = (
        f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n"
        "Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n"
    )
    connection.sendall(head.encode() + b'{"prompt":')
    return connection


def test_a_body_that_never_comes_ends_with_408(keyed):
    with half_sent(keyed) as connection:
        began = time.monotonic()
        reply = b"".join(iter(lambda: connection.recv(10_000), b"")).decode()  # until the service closes it
        assert reply.startswith("HTTP/1.1 408") and "TRUSTTRACE_BODY_TIMEOUT" in reply
        assert 1 < time.monotonic() - began < 15


def test_a_body_of_two_lengths_is_refused(keyed):
    host, port = keyed.removeprefix("http://").split(":")
    body = b'1d\r\n{"prompt":"a","max_tokens":1}\r\n0\r\n\r\n'
    head = (
        "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer k1\r\nContent-Length: 5\r\n"
        "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(head.encode() + body)
        reply = b"".join(iter(lambda: connection.recv(10_000), b"")).decode()  # until the service closes it
    assert reply.startswith("HTTP/1.1 400") and "either Content-Length or Transfer-Encoding" in reply


def test_paths_without_a_key_add_no_metrics(keyed, service_url):
    def series():
        return len(httpx.get(f"{keyed}/metrics").text.splitlines())

    with httpx.Client(base_url=keyed) as client:
        client.get("/v1/nowhere/first")
        before = series()
        for number in range(300):
            client.get(f"/v1/nowhere/{number}")
            client.request(f"M{number}", f"/v1/models/{number}")
    text = httpx.get(f"{keyed}/metrics").text
    assert series() <= before + 40
    assert "nowhere" not in text
    assert "bentoml_" not in httpx.get(f"{service_url}/metrics").text


@pytest.mark.parametrize(
    "body", [{"promt": SECRET}, {"prompt": SECRET, "steering": {"strengths": {}}}, {"prompt": {"a": SECRET}}]
)
def test_generate_refuses_by_name_and_logs_no_prompt(service, body):
    headers = {"x-request-id": "generate-1"}
    reply = httpx.post(f"{service.url}/generate", json=body, headers=headers)
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, [*body][-1])
    log = service.log.read_text()
    assert "078-05" not in log and "Traceback" not in log


def test_a_chunked_body_over_the_limit_is_413(service_url):
    for path in ("/generate", "/v1/completions"):
        chunks = (b" " * 100_000 for _ in range(20))
        reply = httpx.post(f"{service_url}{path}", content=chunks)
        assert (reply.status_code, reply.json()["error"]["code"]) == (413, "request_too_large")


def test_origins_are_let_in_by_setting_alone(keyed):
    preflight = {"access-control-request-method": "POST", "access-control-request-headers": "authorization"}
    path = f"{keyed}/v1/completions"
    allowed = httpx.request("OPTIONS", path, headers={"origin": "https://chat.example", **preflight})
    assert allowed.status_code == 200
    assert allowed.headers["access-control-allow-origin"] == "https://chat.example"
    head = {**preflight, "access-control-request-method": "HEAD", "origin": "https://chat.example"}
    assert httpx.request("OPTIONS", f"{keyed}/v1/models", headers=head).status_code == 200
    refused = httpx.request("OPTIONS", path, headers={"origin": "https://evil.example", **preflight})
    assert refused.status_code == 403 and "TRUSTTRACE_ALLOWED_ORIGINS" in refused.text
    bare = httpx.request("OPTIONS", path, headers={"origin": "https://chat.example"})
    assert bare.status_code == 401 and "ALLOWED_ORIGINS" not in bare.text
    for origin, header in (("https://chat.example", "https://chat.example"), ("https://evil.example", None)):
        headers = {"authorization": "Bearer k1", "origin": origin}
        reply = httpx.post(path, json={"prompt": PROMPT, "max_tokens": 1}, headers=headers)
        assert reply.status_code == 200 and reply.headers.get("access-control-allow-origin") == header
    wrong = httpx.post(path, json={}, headers={"origin": "https://chat.example"})
    assert (wrong.status_code, wrong.headers["access-control-allow-origin"]) == (401, "https://chat.example")


def test_too_many_prompts_are_refused_before_any_is_read(keyed):
    began = time.monotonic()
    reply = ask(keyed, prompt=["a"] * 200_000)
    assert reply.status_code == 400 and reply.json()["error"]["param"] == "prompt"
    assert time.monotonic() - began < 5


def test_one_client_leaves_places_for_the_others(keyed):
    long = {"max_tokens": 400, "ignore_eos": True, "stream": True}
    streams = []
    with httpx.Client(base_url=keyed, headers={"authorization": "Bearer k1"}, timeout=60) as hog:
        try:
            while len(streams) < 8:
                request = hog.build_request("POST", "/v1/completions", json={"prompt": PROMPT, **long})
                streams.append(hog.send(request, stream=True))
            refused = [reply for reply in streams if reply.status_code == 429]
            assert refused and json.loads(refused[0].read())["error"]["code"] == "client_share_exceeded"
            assert refused[0].headers["retry-after"]
            assert ask(keyed, key="k2").status_code == 200
        finally:
            for reply in streams:
                reply.close()


def test_conversations_that_the_template_loops_on_hold_up_nobody_else(keyed, monkeypatch):
    monkeypatch.setattr(CHAT_TEMPLATES, "_seconds", 1.0)

    def chat(key, content):
        body = {"messages": [{"role": "user", "content": content}], "max_tokens": 1}
        headers = {"authorization": f"Bearer {key}"}
        began = time.monotonic()
        reply = httpx.post(f"{keyed}/v1/chat/completions", json=body, headers=headers, timeout=180)
        return reply, time.monotonic() - began

    with ThreadPoolExecutor(64) as threads:
        hostile = [threads.submit(chat, "k1", "loop") for _ in range(64)]
        time.sleep(1)
        reply, seconds = chat("k2", "you")
        assert reply.status_code == 200 and seconds < 10  # alone it takes less than one
        began = time.monotonic()
        assert httpx.get(f"{keyed}/v1/models", headers={"authorization": "Bearer k2"}).status_code == 200
        assert time.monotonic() - began < 5
        replies = [future.result()[0] for future in hostile]
    codes = Counter((reply.status_code, reply.json()["error"]["code"]) for reply in replies)
    assert set(codes) <= {(400, "invalid_request"), (503, "unavailable"), (429, "client_share_exceeded")}
    assert codes[429, "client_share_exceeded"] > 48
    ended = [reply.text for reply in replies if reply.status_code != 429]  # by the clock where the machine is starved
    assert ended and all("took longer than 1 s" in text or "not rendered in 60 s" in text for text in ended)
    assert chat("k1", "you")[0].status_code == 200


def test_readyz_tells_a_stranger_no_address(registry, monkeypatch, caplog, capfd):
    caplog.set_level(logging.INFO)
    caplog.handler.setFormatter(LogFormatter())
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
        monkeypatch.setenv(name, "http://user:PASSWORD@127.0.0.1:9")
    mlflow.set_tracking_uri(None)
    mlflow.set_registry_uri(None)
    with serving(registry, api_keys=("k1",)) as (_, client):
        told = client.get("/readyz").json()
        assert told["part"] == "registry" and "problem" not in told and "127.0.0.1:9" not in str(told)
        known = client.get("/readyz", headers={"authorization": "Bearer k1"}).json()
    assert known["problem"] and "127.0.0.1:9" in caplog.text
    assert "PASSWORD" not in str(known) + caplog.text + "".join(capfd.readouterr())
