"""Hostile clients, in a process of their own: `python -m tests.endurance.hostile_clients <url> [<kind>,…]`.

So the good ones never wait for an interpreter that these hold. They begin by `on`, rest by `off`, and when the input
ends they print a JSON object: how often each thing was done, the answers that say 500, and their processor seconds.
"""

import contextlib
import json
import random
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import httpx

CLIENTS = 4
KINDS = ("half", "slow", "huge", "loops", "strays", "leaves", "hoards", "nonsense")


class Worker(threading.Thread):
    """Does one thing again and again, with a short rest, while ``active`` is set and until stopped."""

    def __init__(self, seed: int, active: threading.Event) -> None:
        super().__init__(daemon=True)
        self.random, self.active, self.stopped = random.Random(seed), active, threading.Event()

    def run(self) -> None:
        while not self.stopped.is_set():
            if self.active.wait(0.1):
                self.act()
                time.sleep(self.random.uniform(0.05, 0.2))

    def act(self) -> None:
        raise NotImplementedError


class Hostile(Worker):
    """A client with a key of its own that does all it can to take the service from the others."""

    def __init__(self, url: str, seed: int, active: threading.Event, kinds: Sequence[str] = KINDS) -> None:
        super().__init__(100 + seed, active)
        self.key, (host, port) = f"bad{seed}", url.removeprefix("http://").split(":")
        self.place, self.kinds = (host, int(port)), kinds
        headers = {"authorization": f"Bearer {self.key}"}
        self.http = httpx.Client(base_url=url, headers=headers, timeout=10, verify=False)
        self.sockets: list[socket.socket] = []
        self.done: Counter[str] = Counter()
        self.broken: list[str] = []
        """What the service had no answer for but 500."""

    def act(self) -> None:
        kind = self.random.choice(self.kinds)
        try:
            getattr(self, kind)()
        except (httpx.HTTPError, OSError):
            self.done[f"{kind}, cut off"] += 1
        else:
            self.done[kind] += 1

    def connect(self, path: str, length: int, begun: bytes) -> socket.socket:
        connection = socket.create_connection(self.place, timeout=5)
        head = (
            f"POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {self.key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
        )
        connection.sendall(head.encode() + begun)
        self.sockets.append(connection)
        while len(self.sockets) > 20:
            self.sockets.pop(0).close()
        return connection

    def post(self, path: str, seconds: float = 10, **options: Any) -> httpx.Response:
        reply = self.http.post(path, timeout=seconds, **options)
        if reply.status_code == 500:
            self.broken.append(reply.text)
        return reply

    def half(self) -> None:
        """A body that never comes whole."""
        for _ in range(5):
            self.connect("/v1/completions", 1000, b'{"prompt":')

    def slow(self) -> None:
        """A stream of which nothing is read."""
        body = json.dumps({"prompt": "The city", "max_tokens": 300, "stream": True, "ignore_eos": True}).encode()
        self.connect("/v1/completions", len(body), body)

    def huge(self) -> None:
        self.post("/v1/completions", content=b" " * 400_000)
        self.post("/v1/completions", content=(b" " * 50_000 for _ in range(10)))
        self.post("/v1/completions", json={"prompt": ["a"] * 60_000})
        self.post("/v1/completions", json={"prompt": "a" * 250_000})
        self.post("/v1/probe", json={"input": "a" * 250_000})

    def loops(self) -> None:
        """Conversations that the chat template does not come to an end with, more than may be rendered at once."""
        body = {"messages": [{"role": "user", "content": "loop"}], "max_tokens": 1}
        threads = [threading.Thread(target=lambda: self._quietly("/v1/chat/completions", json=body)) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def strays(self) -> None:
        """Paths that do not exist, keys that are wrong, methods that nobody takes."""
        for number in range(20):
            self.http.request(f"M{number}", f"/v1/{self.random.random()}")
            self.http.get(f"/v1/models/{number}", headers={"authorization": f"Bearer wrong{number}"})

    def leaves(self) -> None:
        """Answers that nobody waits for."""
        for path, body in (
            ("/v1/completions", {"prompt": "The city", "max_tokens": 300, "ignore_eos": True}),
            ("/v1/probe", {"input": ["you are kind " * 30] * 16, "per_token": True}),
        ):
            self._quietly(path, 0.2, json=body)

    def hoards(self) -> None:
        """As many places as it gets."""
        self._quietly("/v1/completions", json={"prompt": "The city", "max_tokens": 60, "n": 48, "ignore_eos": True})

    def nonsense(self) -> None:
        for body in (b"{", b"[" * 20_000, b'{"prompt":"\\ud83d"}', b'{"prompt":"a","stop":["' + b"a" * 9000 + b'"]}'):
            self.post("/v1/completions", content=body)
        deep: dict[str, Any] = {}
        for _ in range(200):
            deep = {"type": "array", "items": deep}
        format = {"type": "json_schema", "json_schema": {"name": "a", "schema": deep}}
        self.post(
            "/v1/chat/completions", json={"messages": [{"role": "user", "content": "a"}], "response_format": format}
        )

    def _quietly(self, path: str, seconds: float = 10, **options: Any) -> None:
        with contextlib.suppress(httpx.HTTPError):
            self.post(path, seconds, **options)


def main(url: str, kinds: Sequence[str] = KINDS) -> None:
    active = threading.Event()
    clients = [Hostile(url, seed, active, kinds) for seed in range(CLIENTS)]
    for client in clients:
        client.start()
    for line in sys.stdin:
        (active.set if line.strip() == "on" else active.clear)()
    for client in clients:
        client.stopped.set()
    for client in clients:
        client.join(30)
    done = sum((client.done for client in clients), Counter())
    broken = [text for client in clients for text in client.broken]
    print(json.dumps({"done": done, "broken": broken, "processor": time.process_time()}))


if __name__ == "__main__":
    main(sys.argv[1], *(kinds.split(",") for kinds in sys.argv[2:]))
