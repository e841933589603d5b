"""Hostile clients among good ones: nobody takes the service from the others (`--seconds`, 600 by default).

Quarters with and without the hostile clients take turns, so that a machine whose speed drifts favours neither. An
answer's delay is told by the clock and in processor seconds of the worker, which what else runs here does not lengthen.
"""

import itertools
import json
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import psutil

from tests.endurance.hostile_clients import KINDS, Worker
from tests.endurance.traffic import PROMPTS
from tests.serving.conftest import DIMENSIONS, ROOT, Service

GOOD_CLIENTS = 4
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


class Good(Worker):
    """A client that asks for short things of every kind, and remembers how long each took and what came of it."""

    def __init__(
        self, service: Service, seed: int, active: threading.Event, phase: Callable[[], str], worker: int
    ) -> None:
        super().__init__(seed, active)
        self.worker_clock = (~worker << 3) | 2
        """Linux' clock of the processor time of the process ``worker``."""
        headers = {"authorization": f"Bearer good{seed}"}
        self.http = httpx.Client(base_url=service.url, headers=headers, timeout=60)
        self.phase = phase
        self.answers: list[tuple[str, str, float, float, int, str]] = []
        """Phase, kind, seconds, processor seconds of the worker, status and, of what was refused, why."""

    def act(self) -> None:
        kind = self.random.choice(("whole", "streamed", "chat", "monitored", "json", "compared", "probed"))
        path, body = self.request(kind)
        phase, began, used = self.phase(), time.monotonic(), time.clock_gettime(self.worker_clock)
        try:
            reply = self.http.post(path, json=body)
            status, problem = reply.status_code, reply.text
            if kind == "streamed" and status == 200 and not problem.rstrip().endswith("data: [DONE]"):
                status = 0
        except httpx.HTTPError as error:
            status, problem = 0, f"{type(error).__name__}: {error}"
        took, used = time.monotonic() - began, time.clock_gettime(self.worker_clock) - used
        self.answers.append((phase, kind, took, used, status, "" if status == 200 else problem))

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


class HostileClients:
    """The process of `tests/endurance/hostile_clients.py`."""

    def __init__(self, url: str) -> None:
        command = [sys.executable, "-m", "tests.endurance.hostile_clients", url]
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def say(self, word: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{word}\n")
        self._process.stdin.flush()

    def end(self) -> dict[str, Any]:
        """How often they did what, the answers that said 500, and their processor seconds."""
        told: dict[str, Any] = json.loads(self._process.communicate(timeout=180)[0])
        return told


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
    always, phase = threading.Event(), ["warming"]
    always.set()
    good = [Good(service, seed, always, lambda: phase[0], worker.pid) for seed in range(GOOD_CLIENTS)]
    hostile = HostileClients(service.url)
    for client in good:
        client.start()
    time.sleep(min(10.0, seconds / 6))
    held, predicted = held_and_most(service)
    base, most, deadline = allocated(worker) - held, 0, time.monotonic()
    for name in ("alone", "among hostile ones") * 2:
        phase[0], deadline = "between", deadline + seconds / 4
        hostile.say("off" if name == "alone" else "on")
        time.sleep(min(3.0, seconds / 16))  # in which what was begun before ends
        phase[0] = name
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
    told = hostile.end()
    done, broken = told["done"], told["broken"]
    for client in good:
        client.close()

    answers = list(itertools.chain.from_iterable(client.answers for client in good))
    hostile_acts = dict(sorted(done.items()))
    say(f"{len(answers)} good requests; hostile, in {told['processor']:.0f} s of a processor: {hostile_acts}")
    wrong = [answer for answer in answers if answer[4] != 200]
    for column, unit in ((2, "s"), (3, "s of the worker's processor time")):
        p99 = {}
        for name in ("alone", "among hostile ones"):
            took = [answer[column] for answer in answers if answer[0] == name]
            p50, p99[name] = np.quantile(took, (0.5, 0.99))
            slowest = sorted(((answer[column], answer[1]) for answer in answers if answer[0] == name), reverse=True)[:4]
            named = ", ".join(f"{kind} {took:.3f}" for took, kind in slowest)
            say(f"{name}: p50 {p50:.3f}, p99 {p99[name]:.3f} {unit}, n = {len(took)}; slowest: {named}")
        ratio = p99["among hostile ones"] / p99["alone"]
        say(f"p99 is {ratio:.2f}x that without them, of at most 1.5x{'' if ratio <= 1.5 else ': missed'}")
    sizes = (f"{size / 2**20:.1f}" for size in (most, base, predicted))
    missed = "" if most <= base + predicted else ": missed"
    say("at most {} MiB in the worker, where {} and the {} of /readyz are predicted{}".format(*sizes, missed))
    missed = "" if to_the_end <= DRAIN else ": missed"
    say(f"SIGTERM: ended with {ended} after {to_the_end:.1f} s, of {DRAIN:g} s to drain{missed}")
    assert not broken, broken[:3]
    assert not wrong, (Counter(answer[4] for answer in wrong), wrong[:3])
    assert ended == 0 and to_the_end < DRAIN + 2  # of a busy machine
    assert {*KINDS} <= {kind.partition(",")[0] for kind in done} or seconds < 120
