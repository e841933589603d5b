"""Ten minutes of mixed requests while champions change every ten seconds (`TRUSTTRACE_MINUTES` shortens it)."""

import os
import time
from collections import Counter, defaultdict
from itertools import pairwise

import httpx
import pytest

from registry.store import VectorStore
from tests.endurance.conftest import DIMENSIONS
from tests.endurance.memory import MemoryWatch, slope
from tests.endurance.traffic import Answer, Client
from tests.serving.conftest import Service

MINUTES = float(os.environ.get("TRUSTTRACE_MINUTES", "10"))
CLIENTS, PROMOTED_EVERY, POLL = 12, 10.0, 0.5


def test_ten_minutes_of_traffic_and_promotions(team, watched, tmp_path, say):
    deployment, versions = team
    settings, connections = watched
    service = Service(deployment, tmp_path / "service.log", TRUSTTRACE_POLL=str(POLL), **settings).await_ready()
    memory = MemoryWatch(service.process.pid, every=2.0, held=lambda: keys_and_values(service.url))
    clients = [Client(service.url, seed, DIMENSIONS) for seed in range(CLIENTS)]
    try:
        began = time.time()
        for thread in (memory, *clients):
            thread.start()
        history = promote_in_turn(versions, seconds=60 * MINUTES)
        for client in clients:
            client.stop()
        for client in clients:
            client.join(60)
        seconds = time.time() - began
        time.sleep(3)
        left = [
            line
            for line in httpx.get(f"{service.url}/metrics").text.splitlines()
            if line.startswith("trusttrace_active")
        ]
        memory.stop()
    finally:
        service.stop()

    answers = [answer for client in clients for answer in client.answers]
    kinds = Counter(answer.kind for answer in answers)
    say(f"{len(answers)} requests in {seconds:.0f} s: {', '.join(f'{n} {kind}' for kind, n in kinds.most_common())}")
    wrong = [answer for answer in answers if answer.status != 200]
    assert not wrong, (Counter(answer.status for answer in wrong), wrong[:3])
    delays = [delay_of(answer, history) for answer in answers if answer.applied]
    texts = defaultdict(set)
    for answer in answers:
        if answer.text and answer.kind != "probed":
            texts[answer.kind == "chat", answer.prompt, told(answer)].add(answer.text)
    given = sum(bool(answer.text) and answer.kind != "probed" for answer in answers)
    promoted = sum(len(versions) - 1 for versions in history.values())
    differing = sum(len(variants) > 1 for variants in texts.values())
    say(
        f"{len(delays)} steered answers, each by versions that were champion less than {max(delays):.2f} s before it "
        f"was asked for; {promoted} promotions; {given - len(texts)} answers given again, {differing} differently"
    )
    unheld = [(second, total - held) for second, total, held in memory.samples]
    gradient, low, high = slope(unheld, after=min(120.0, 20 * MINUTES))
    (_, first, _), (_, last, kept), n = memory.samples[0], memory.samples[-1], len(memory.samples)
    say(
        f"{first:.0f} MiB allocated at first and {last:.0f} at last, of which {kept:.1f} keys and values by /readyz; "
        f"the rest growing by {gradient:+.3f} MiB a minute [{low:+.3f}, {high:+.3f}]; n = {n}"
    )
    say(f"connected to {sorted(connections())}")
    assert max(delays) < POLL + 5
    assert all(len(variants) == 1 for variants in texts.values())
    assert all(
        "127.0.0.1" in peer or peer.startswith(("'", "b'")) for peer in connections()
    )  # or a socket in the file system
    assert all(float(line.split()[-1]) == 0 for line in left)
    if MINUTES >= 10:
        assert len(answers) >= 1000
        assert low <= 0 or gradient < 0.001 * last, (gradient, low, high)


def promote_in_turn(versions, seconds: float) -> dict[str, list[tuple[float, float, str]]]:
    """Promote two dimensions' next versions every ten seconds; by dimension, each with when it began and ended."""
    store, history = VectorStore(), {name: [(0.0, 0.0, found[-1].version)] for name, found in versions.items()}
    deadline, turn = time.monotonic() + seconds, 0
    while time.monotonic() + PROMOTED_EVERY < deadline:
        time.sleep(PROMOTED_EVERY)
        for name in (DIMENSIONS[turn % 5], DIMENSIONS[(turn + 2) % 5]):
            chosen = versions[name][turn % 3]
            asked = time.time()
            store.promote(chosen, reason="endurance")
            history[name].append((asked, time.time(), chosen.version))
        turn += 1
    time.sleep(max(0.0, deadline - time.monotonic()))
    return history


def delay_of(answer: Answer, history) -> float:
    """Seconds by which the versions that an answer names had ceased to be champion when it was asked; 0 for none."""
    assert {vector["dimension"]: vector["strength"] for vector in answer.applied} == pytest.approx(
        dict(answer.asked)
    ), answer
    return max(_delay(answer, vector["version"], history[vector["dimension"]]) for vector in answer.applied)


def _delay(answer: Answer, version: str, promoted: list[tuple[float, float, str]]) -> float:
    ends = [*(following[1] for _, following in pairwise(promoted)), float("inf")]
    found = [
        max(0.0, answer.began - end)
        for (asked, _, number), end in zip(promoted, ends, strict=True)
        if number == version and asked <= answer.ended
    ]
    assert found, f"version {version} was not yet champion: {answer}"
    return min(found)


def told(answer: Answer) -> tuple:
    return tuple((vector["vector"], vector["version"], vector["strength"]) for vector in answer.applied)


def keys_and_values(url: str) -> float:
    """MiB that ``/readyz`` says are held."""
    told = httpx.get(f"{url}/readyz", timeout=60).json()
    return float(told["slots"]["held"] + told["prefix_cache"]["held"]) / 2**20
