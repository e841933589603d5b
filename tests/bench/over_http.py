"""What HTTP and BentoML add to the engine's own time, request by request in turn."""

import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from serving.engine.base import GenerationRequest, Sampling
from serving.engine.slots.engine import SlotEngine
from serving.engine.slots.kernels import Kernels
from serving.model.language_model import load
from serving.model.sources import find_series
from serving.steering.bank import SteeringBank
from serving.steering.plan import SteeringPlan
from tests.bench.table import Comparison
from tests.servers import ROOT, answers, free_port, started, wait_for

PROMPT = "The city of Lyon is in"


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


def compare_http(model_name: str, requests: int = 60, tokens: int = 4) -> list[Comparison]:
    model = load(find_series(model_name).checkpoints[-1])
    prompt = tuple(model.tokenizer(PROMPT)["input_ids"])
    plan = SteeringPlan(SteeringBank(model.facts))
    sampling = Sampling(tokens, temperature=0.0, ignore_eos=True)
    body = {"prompt": PROMPT, "max_tokens": tokens, "temperature": 0, "ignore_eos": True}
    own, http = [], []
    kernels = Kernels(four_bit=True)  # as the service multiplies
    with SlotEngine(model, kernels=kernels) as engine, service(model_name) as client:
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
