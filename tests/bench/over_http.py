"""What HTTP and BentoML add to the engine's own time, request by request in turn."""

import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from serving.engine.base import GenerationRequest, Sampling
from serving.engine.slot_engine import SlotEngine
from serving.model.language_model import load
from serving.model.sources import find_series
from serving.model.steering_bank import SteeringBank, unsteered
from tests.bench.table import Comparison

PROMPT = "The city of Lyon is in"
ROOT = Path(__file__).parents[2]


@contextmanager
def service(model: str) -> Iterator[httpx.Client]:
    """`bentoml serve` on an empty registry of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as directory, (Path(directory) / "log").open("wb") as log:
        environment = {**os.environ, "TRUSTTRACE_MODEL": model, "MLFLOW_TRACKING_URI": f"sqlite:///{directory}/m.db"}
        command = [sys.executable, "-m", "bentoml", "serve", "serving.service:SteeringService"]
        place = ["--host", "127.0.0.1", "--port", str(port)]
        process = subprocess.Popen(
            [*command, *place], cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True
        )
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120) as client:
                await_ready(client)
                yield client
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(60)


def await_ready(client: httpx.Client) -> None:
    for _ in range(600):
        try:
            if client.get("/readyz").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise TimeoutError("the service did not come up")


def compare_http(model_name: str, requests: int = 60, tokens: int = 4) -> list[Comparison]:
    model = load(find_series(model_name).checkpoints[-1])
    prompt = tuple(model.tokenizer(PROMPT)["input_ids"])
    plan = unsteered(SteeringBank(model.checkpoint.model, model.d_model))
    sampling = Sampling(tokens, temperature=0.0, ignore_eos=True)
    body = {"prompt": PROMPT, "max_tokens": tokens, "temperature": 0, "ignore_eos": True}
    own, http = [], []
    with SlotEngine(model) as engine, service(model_name) as client:
        for _ in range(requests):
            began = time.perf_counter()
            engine.submit(GenerationRequest(prompt, sampling, plan)).result()
            own.append(time.perf_counter() - began)
            began = time.perf_counter()
            client.post("/v1/completions", json=body).raise_for_status()
            http.append(time.perf_counter() - began)
    engine_ms, http_ms = (1e3 * statistics.median(times[5:]) for times in (own, http))
    what = f"HTTP and BentoML, {tokens} tokens, median of {requests - 5}"
    measured, against = f"{http_ms:.1f} ms", f"{engine_ms:.1f} ms by the engine"
    return [Comparison("http/added_ms", what, measured, against, http_ms - engine_ms, "ms", at_most=5)]
