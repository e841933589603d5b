"""Hostile clients among good ones: nobody takes the service from the others (`--seconds`, 600 by default).

Quarters with and without the hostile clients take turns, so that a machine whose speed drifts favours neither.
"""

import contextlib
import itertools
import json
import random
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import psutil

from tests.endurance.traffic import PROMPTS
from tests.serving.conftest import DIMENSIONS, Service

GOOD_CLIENTS, HOSTILE_CLIENTS = 4, 4
DRAIN = 10.0
BODY_LIMIT = 262_144
SETTINGS = {
    "TRUSTTRACE_API_KEYS": ",".join([f"good{n}" for n in range(4)] + [f"bad{n}" for n in range(4)]),
    "TRUSTTRACE_BODY_TIMEOUT": "5",
    "TRUSTTRACE_BODY_LIMIT": str(BODY_LIMIT),
    "TRUSTTRACE_PREFIX_CACHE": "16777216",
    "TRUSTTRACE_DRAIN": f"{DRAIN:g}",
}
SCHEMA = {"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"], "additionalProperties": False}


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

    def close(self) -> None:
        """Close every connection; called when the thread has ended."""
        raise NotImplementedError


class Good(Worker):
    """A client that asks for short things of every kind, and remembers how long each took and what came of it."""

    def __init__(self, service: Service, seed: int, active: threading.Event, phase: Callable[[], str]) -> None:
        super().__init__(seed, active)
        headers = {"authorization": f"Bearer good{seed}"}
        self.http = httpx.Client(base_url=service.url, headers=headers, timeout=60)
        self.phase = phase
        self.answers: list[tuple[str, str, float, int, str]] = []
        """Phase, kind, seconds, status and, of what was refused, why."""

    def act(self) -> None:
        kind = self.random.choice(("whole", "streamed", "chat", "monitored", "json", "compared", "probed"))
        path, body = self.request(kind)
        phase, began = self.phase(), time.monotonic()
        try:
            reply = self.http.post(path, json=body)
            status, problem = reply.status_code, reply.text
            if kind == "streamed" and status == 200 and not problem.rstrip().endswith("data: [DONE]"):
                status = 0
        except httpx.HTTPError as error:
            status, problem = 0, f"{type(error).__name__}: {error}"
        self.answers.append((phase, kind, time.monotonic() - began, status, "" if status == 200 else problem))

    def close(self) -> None:
        self.http.close()

    def request(self, kind: str) -> tuple[str, dict[str, Any]]:
        prompt, name = self.random.choice(PROMPTS), self.random.choice(DIMENSIONS)
        steering: dict[str, Any] = {"strengths": {name: self.random.choice((-1.0, 0.5, 1.0))}}
        body = {"max_tokens": 12, "temperature": 0, "ignore_eos": True, "steering": steering}
        if kind == "chat":
            return "/v1/chat/completions", {**body, "messages": [{"role": "user", "content": prompt}]}
        if kind == "json":
            format = {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA}}
            chat = {"messages": [{"role": "user", "content": prompt}], "max_tokens": 40, "response_format": format}
            return "/v1/chat/completions", {**body, **chat, "ignore_eos": False}
        if kind == "compared":
            settings = [{"steering": body.pop("steering")}, {"steering": "off"}]
            return "/v1/steering/compare", {**body, "prompt": prompt, "settings": settings}
        if kind == "probed":
            return "/v1/probe", {"input": [prompt]}
        if kind == "monitored":
            body |= {"steering": {**steering, "monitor": [name]}, "logprobs": 3}
        return "/v1/completions", {**body, "prompt": prompt, "stream": kind == "streamed"}


class Hostile(Worker):
    """A client with a key of its own that does all it can to take the service from the others."""

    def __init__(self, service: Service, seed: int, active: threading.Event) -> None:
        super().__init__(100 + seed, active)
        self.key, (host, port) = f"bad{seed}", service.url.removeprefix("http://").split(":")
        self.place, self.url = (host, int(port)), service.url
        self.sockets: list[socket.socket] = []
        self.done: Counter[str] = Counter()
        self.broken: list[str] = []
        """What the service had no answer for but 500."""

    def act(self) -> None:
        kind = self.random.choice(("half", "slow", "huge", "loops", "strays", "leaves", "hoards", "nonsense"))
        try:
            getattr(self, kind)()
        except (httpx.HTTPError, OSError):
            self.done[f"{kind}, cut off"] += 1
        else:
            self.done[kind] += 1

    def close(self) -> None:
        for connection in self.sockets:
            connection.close()

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
        headers = {"authorization": f"Bearer {self.key}"}
        reply = httpx.post(f"{self.url}{path}", headers=headers, timeout=seconds, **options)
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
        with httpx.Client(base_url=self.url, timeout=10) as http:
            for number in range(20):
                http.request(f"M{number}", f"/v1/{self.random.random()}")
                http.get(f"/v1/models/{number}", headers={"authorization": f"Bearer wrong{number}"})

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


def allocated(worker: psutil.Process) -> int:
    """Bytes that the worker has allocated, without mapped files."""
    with open(f"/proc/{worker.pid}/status") as status:
        return sum(1024 * int(line.split()[1]) for line in status if line.startswith("RssAnon:"))


def held_and_most(service: Service) -> tuple[int, int]:
    """Bytes of keys and values that ``/readyz`` says are held, and that these and texts on their way hold at most."""
    told = httpx.get(f"{service.url}/readyz", timeout=60).json()
    slots, prefixes = told["slots"], told["prefix_cache"]
    return slots["held"] + prefixes["held"], slots["full"] + prefixes["limit"] + told["texts"]["full"]


def test_good_clients_do_not_notice_hostile_ones(deployment, tmp_path, say, pytestconfig):
    seconds = float(pytestconfig.getoption("--seconds"))
    service = Service(deployment, tmp_path / "service.log", **SETTINGS).await_ready()
    try:
        _run(service, seconds, say)
    finally:
        service.stop()


def _run(service: Service, seconds: float, say: Callable[[str], None]) -> None:
    processes = psutil.Process(service.process.pid).children(recursive=True)
    worker = next(process for process in processes if any("worker.service" in word for word in process.cmdline()))
    always, at_times, phase = threading.Event(), threading.Event(), ["warming"]
    always.set()
    good = [Good(service, seed, always, lambda: phase[0]) for seed in range(GOOD_CLIENTS)]
    hostile = [Hostile(service, seed, at_times) for seed in range(HOSTILE_CLIENTS)]
    for thread in (*good, *hostile):
        thread.start()
    time.sleep(min(10.0, seconds / 6))
    held, predicted = held_and_most(service)
    base, most, deadline = allocated(worker) - held, 0, time.monotonic()
    for name in ("alone", "among hostile ones") * 2:
        phase[0], deadline = name, deadline + seconds / 4
        (at_times.clear if name == "alone" else at_times.set)()
        while time.monotonic() < deadline:
            most = max(most, allocated(worker))
            time.sleep(0.5)
    for client in good:
        client.stopped.set()
    for client in good:
        client.join(60)
    began = time.monotonic()
    service.process.send_signal(signal.SIGTERM)  # with the hostile ones still at it
    ended = service.process.wait(DRAIN + 60)
    to_the_end = time.monotonic() - began
    for client in hostile:
        client.stopped.set()
    for client in (*good, *hostile):
        client.join(60)
        client.close()

    answers = list(itertools.chain.from_iterable(client.answers for client in good))
    done: Counter[str] = sum((client.done for client in hostile), Counter())
    say(f"{len(answers)} good requests; hostile: {dict(sorted(done.items()))}")
    wrong = [answer for answer in answers if answer[3] != 200]
    p99 = {}
    for name in ("alone", "among hostile ones"):
        took = [answer[2] for answer in answers if answer[0] == name]
        p50, p99[name] = np.quantile(took, (0.5, 0.99))
        say(f"{name}: p50 {p50:.3f} s, p99 {p99[name]:.3f} s, n = {len(took)}")
    sizes = (f"{size / 2**20:.1f}" for size in (most, base, predicted))
    missed = "" if most <= base + predicted else ": missed"
    say("at most {} MiB in the worker, where {} and the {} of /readyz are predicted{}".format(*sizes, missed))
    ratio = p99["among hostile ones"] / p99["alone"]
    say(f"p99 is {ratio:.2f}x that without them, of at most 1.5x{'' if ratio <= 1.5 else ': missed'}")
    missed = "" if to_the_end <= DRAIN else ": missed"
    say(f"SIGTERM: ended with {ended} after {to_the_end:.1f} s, of {DRAIN:g} s to drain{missed}")
    broken = [text for client in hostile for text in client.broken]
    assert not broken, broken[:3]
    assert not wrong, (Counter(answer[3] for answer in wrong), wrong[:3])
    assert ended == 0 and to_the_end < DRAIN + 2  # of a busy machine
    assert {"half", "slow", "huge", "loops", "strays", "leaves", "hoards", "nonsense"} <= {
        kind.partition(",")[0] for kind in done
    } or seconds < 120
