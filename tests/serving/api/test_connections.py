"""Connections of the real service: closed by the client on one side, or on both."""

import json
import socket
import time

import pytest


def as_sent(service, body, version="1.1"):
    content = json.dumps({"temperature": 0, "ignore_eos": True, **body}).encode()
    head = f"POST /v1/completions HTTP/{version}\r\nHost: {service.url.removeprefix('http://')}\r\n"
    fields = f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    return (head + fields).encode() + content


def connected(service):
    host, port = service.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=30)


def half_closed(service, sent):
    """All that comes, until the service closes its side, to a client that closed its own once it had sent."""
    with connected(service) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(10_000), b"")).decode()


def test_half_closed_connections_are_answered(service):
    sent = as_sent(service, {"prompt": "a", "max_tokens": 300})
    assert '"finish_reason":"length"' in half_closed(service, sent)
    streamed = half_closed(service, as_sent(service, {"prompt": "a", "max_tokens": 300, "stream": True}))
    assert "data: [DONE]" in streamed
    assert half_closed(service, 2 * sent).count('"finish_reason":"length"') == 2


def test_half_a_request_is_not_waited_for(service):
    began = time.monotonic()
    assert half_closed(service, as_sent(service, {"prompt": "a"})[:-5]) == ""
    assert time.monotonic() - began < 5


def test_who_has_left_is_cancelled_within_a_second(service):
    """Both sides closed look the same at first."""
    before = service.log.read_text().count("client_closed_request")
    with connected(service) as connection:
        connection.sendall(as_sent(service, {"prompt": "a", "max_tokens": 500, "n": 32}))
        time.sleep(0.2)
    deadline = time.monotonic() + 1
    while service.log.read_text().count("client_closed_request") == before:
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("sent", [b"hello\r\n\r\n", b"GET / HTTP/1.1\r\nX: " + 70_000 * b"a" + b"\r\n\r\n"])
def test_what_is_no_http_is_refused_in_the_envelope(service, sent):
    reply = half_closed(service, sent)
    logged = [json.loads(line) for line in service.log.read_text().splitlines()]
    assert [line["level"] for line in logged if line["message"].startswith("Invalid HTTP")][-1:] == ["WARNING"]
    head, _, body = reply.partition("\r\n\r\n")
    assert head.startswith("HTTP/1.1 400") and json.loads(body)["error"]["code"] == "invalid_request"
