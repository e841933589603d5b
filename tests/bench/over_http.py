"""What HTTP and BentoML add to the engine's own time, and how soon a chat goes on over HTTP."""

import json
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from pipelines.statements.packaged import packaged_statements
from serving.engine.base import GenerationRequest, Sampling
from serving.engine.slots.engine import SlotEngine
from serving.engine.slots.kernels import Kernels
from serving.model.language_model import load
from serving.model.sources import find_series
from serving.steering.bank import SteeringBank
from serving.steering.plan import SteeringPlan
from tests.bench.table import Comparison
from tests.bench.timing import in_turn, median_difference, median_ratio, seconds
from tests.servers import ROOT, answers, free_port, started, wait_for
from tests.threads import in_passing

PROMPT = "The city of Lyon is in"
FIRST_TURN, ANSWER = 1000, 30
WARMING = 5
FURTHER = (
    "Thank you. Now go on with that for another moment: what else is there to say about the places, and about which "
    "of them first?"
)


@contextmanager
def service(model: str) -> Iterator[httpx.Client]:
    """`bentoml serve` on an empty registry and in a BentoML home of its own."""
    port = free_port()
    with tempfile.TemporaryDirectory() as name:
        directory, registry = Path(name), f"sqlite:///{name}/mlflow.db"
        environment = {
            "TRUSTTRACE_MODEL": model,
            "TRUSTTRACE_API_KEYS": "",
            "MLFLOW_TRACKING_URI": registry,
            "MLFLOW_REGISTRY_URI": registry,
            "BENTOML_HOME": f"{name}/bentoml",
            "PYTHONPATH": str(ROOT),
        }
        command = [sys.executable, "-m", "bentoml", "serve", "serving.service:SteeringService"]
        with started([*command, "--host", "127.0.0.1", "--port", str(port)], directory / "log", environment) as process:
            url = f"http://127.0.0.1:{port}"
            wait_for(lambda: answers(f"{url}/readyz"), process, directory / "log")
            with httpx.Client(base_url=url, timeout=120) as client:
                yield client


def compare_http(model_name: str, pairs: int = 60, tokens: int = 4) -> list[Comparison]:
    """In turn a request by the engine alone and one by the service: the machine changes its pace by more than HTTP."""
    model = in_passing(lambda: load(find_series(model_name).checkpoints[-1]))
    prompt = tuple(model.tokenizer(PROMPT)["input_ids"])
    plan = SteeringPlan(SteeringBank(model.facts))
    sampling = Sampling(tokens, temperature=0.0, ignore_eos=True)
    body = {"prompt": PROMPT, "max_tokens": tokens, "temperature": 0, "ignore_eos": True}
    kernels = Kernels(four_bit=True)  # as the service multiplies
    with in_passing(lambda: SlotEngine(model, kernels=kernels)) as engine, service(model_name) as client:
        by_engine = partial(seconds, lambda: engine.submit(GenerationRequest(prompt, sampling, plan)).result(), 1)
        by_http = partial(seconds, lambda: client.post("/v1/completions", json=body).raise_for_status(), 1)
        times = np.array(in_turn(by_http, by_engine, WARMING + pairs)[WARMING:])
        second_turn = compare_second_turn(client, model.tokenizer, chats=10)
    http_ms, engine_ms = 1e3 * np.median(times, axis=0)
    added, low, high = median_difference(1e3 * times)
    what = f"HTTP and BentoML, {tokens} tokens, {pairs} pairs in turn"
    measured, against = f"{http_ms:.1f} ms", f"{engine_ms:.1f} ms by the engine"
    row = Comparison("http/added_ms", what, measured, against, added, "ms", at_most=5, interval=(low, high))
    return [row, second_turn]


def compare_second_turn(client: httpx.Client, tokenizer: Any, chats: int) -> Comparison:
    """Seconds to the first streamed word of a chat's second answer, beside those of its first."""
    generator, texts = np.random.default_rng(0), packaged_statements("reliability").texts
    times = np.empty((chats, 2))
    for chat in range(-1, chats):  # the first chat warms up
        text, count = "", 0
        while count < FIRST_TURN:
            text += f"{texts[generator.integers(len(texts))]} "
            count = len(tokenizer(text)["input_ids"])
        messages = [{"role": "user", "content": text}]
        first, answer = first_word(client, messages)
        messages += [{"role": "assistant", "content": answer}, {"role": "user", "content": FURTHER}]
        second, _ = first_word(client, messages)
        if chat >= 0:
            times[chat] = second, first
    ours, theirs, ratio, low, high = median_ratio(times)
    what = f"HTTP: first word of a second turn, {ANSWER} tokens answered and some 30 more asked, {chats} chats"
    against = f"{1e3 * theirs:.0f} ms of the first turn of {FIRST_TURN} tokens"
    return Comparison(
        "http/second_turn", what, f"{1e3 * ours:.0f} ms", against, ratio, "x", at_most=0.15, interval=(low, high)
    )


def first_word(client: httpx.Client, messages: Sequence[Mapping[str, str]]) -> tuple[float, str]:
    """Seconds to the first streamed text, and the whole answer."""
    body = {"messages": messages, "max_tokens": ANSWER, "temperature": 0, "stream": True, "ignore_eos": True}
    began, first, answer = time.perf_counter(), 0.0, ""
    with client.stream("POST", "/v1/chat/completions", json=body) as response:
        response.raise_for_status()
        for line in response.iter_lines():
            if not line.startswith("data: {"):
                continue
            for choice in json.loads(line.removeprefix("data: "))["choices"]:
                text = choice["delta"].get("content") or ""
                first = first or (time.perf_counter() - began if text else 0.0)
                answer += text
    return first, answer
