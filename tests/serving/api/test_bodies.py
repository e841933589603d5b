"""Request bodies over a socket: what a body leaves behind that was refused before it had come."""

import asyncio
import socket
import threading
import time

import pytest
import uvicorn

from serving.api import bodies
from serving.api.bodies import IncomingBody, RequestBodies
from serving.api.middleware import ServiceMiddleware
from serving.settings import Settings
from tests.servers import free_port

ENDLESS = 10**12
CHUNKED = "Transfer-Encoding: chunked"


async def answer(scope, receive, send):
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"{}"})


@pytest.fixture(scope="module")
def port():
    """A service of one key with room for small bodies."""
    edge = ServiceMiddleware(answer, answer, Settings(api_keys=("k",), body_limit=100_000))
    server = uvicorn.Server(uvicorn.Config(edge, port=free_port(), log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.02)
    yield server.config.port
    server.should_exit = True
    thread.join()


@pytest.fixture
def connection(port, monkeypatch):
    monkeypatch.setattr(bodies, "LINGER", 0.5)
    with socket.create_connection(("127.0.0.1", port), timeout=30) as one:
        yield one


def head(*fields, key="k", method="POST"):
    lines = (f"{method} /v1/completions HTTP/1.1", "Host: localhost", f"Authorization: Bearer {key}", *fields)
    return "\r\n".join((*lines, "", "")).encode()


def until_closed(connection):
    return b"".join(iter(lambda: connection.recv(65_536), b"")).decode()


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (head("Content-Length: 1000", key="x") + b"half", 401),
        (head("Content-Length: 200000") + b"half", 413),
        (head(f"Content-Length: {ENDLESS}", method="OPTIONS", key="x"), 401),
        (head("Content-Length: 1000", "Origin: https://a.example", method="OPTIONS"), 403),
        (head(CHUNKED, key="x") + b"4\r\nhalf\r\n", 401),
    ],
)
def test_an_answer_before_the_body_ends_the_connection(connection, sent, status):
    connection.sendall(sent)
    began = time.monotonic()
    reply = until_closed(connection)
    assert reply.startswith(f"HTTP/1.1 {status}") and "\r\nconnection: close\r\n" in reply
    assert time.monotonic() - began < 4  # the server's timer for idle connections, 5 s by default, has no part in it


def test_who_goes_on_sending_is_cut_off(connection):
    connection.sendall(head(f"Content-Length: {ENDLESS}", key="x"))
    with pytest.raises(OSError):
        for _ in range(1000):
            connection.sendall(bytes(2**20))


def test_who_sends_too_much_still_gets_the_answer(connection):
    connection.sendall(head(CHUNKED) + (b"10000\r\n" + bytes(2**16) + b"\r\n") * 32 + b"0\r\n\r\n")
    time.sleep(0.1)
    assert until_closed(connection).startswith("HTTP/1.1 413")


def test_a_refused_body_that_came_whole_keeps_the_connection(connection):
    for key, status in (("x", 401), ("k", 200)):
        connection.sendall(head("Content-Length: 2", key=key) + b"{}")
        reply = ""
        while not reply.endswith("}"):
            reply += connection.recv(65_536).decode()
        assert reply.startswith(f"HTTP/1.1 {status}") and "connection: close" not in reply


def test_who_asks_before_sending_is_not_told_to(connection):
    connection.sendall(head("Content-Length: 1000", "Expect: 100-continue", key="x"))
    assert until_closed(connection).startswith("HTTP/1.1 401")


def test_a_shutdown_waits_for_no_body(monkeypatch):
    monkeypatch.setattr(bodies, "LINGER", 60)

    async def run():
        never = IncomingBody(asyncio.Event().wait, {"content-length": "9"})
        read = RequestBodies(100, 60)
        discarding = asyncio.create_task(read.discard(never))
        await asyncio.sleep(0)
        assert not discarding.done()
        read.close()
        await asyncio.wait_for(discarding, 5)

    asyncio.run(run())
