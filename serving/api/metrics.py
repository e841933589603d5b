"""Prometheus metrics of the service, beside those that BentoML keeps of HTTP itself."""

import threading
import time

from prometheus_client import Counter, Gauge, Histogram

from serving.api.request_record import RequestRecord
from serving.served_model import ServedModel

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE"})
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)

REQUESTS = Counter("trusttrace_requests", "HTTP requests", ["method", "route", "status"])
DURATION = Histogram("trusttrace_request_seconds", "Seconds from request to the end of its answer", buckets=SECONDS)
FIRST_TOKEN = Histogram("trusttrace_first_token_seconds", "Seconds to the first token of a stream", buckets=SECONDS)
PROMPT_TOKENS = Counter("trusttrace_prompt_tokens", "Prompt tokens of answered requests")
GENERATED_TOKENS = Counter("trusttrace_generated_tokens", "Generated tokens of answered requests")
STEERED = Counter("trusttrace_steered_requests", "Requests that steered a dimension", ["dimension"])
ACTIVE = Gauge("trusttrace_active", "Requests that have a slot", multiprocess_mode="livesum")
QUEUED = Gauge("trusttrace_queued", "Requests that wait for a slot", multiprocess_mode="livesum")
MEAN_BATCH = Gauge("trusttrace_mean_batch", "Generated tokens a step, since the start", multiprocess_mode="livemax")
BANK_SWAPS = Gauge("trusttrace_bank_swaps", "How often the live vectors were replaced", multiprocess_mode="livemax")
READY = Gauge("trusttrace_ready", "Whether the service can answer", multiprocess_mode="livemin")
REGISTRY = Gauge("trusttrace_registry_answers", "Whether the registry answered last", multiprocess_mode="livemin")


def observe(record: RequestRecord) -> None:
    """Count one request that has ended."""
    method = record.method if record.method in METHODS else "other"
    REQUESTS.labels(method, _route(record), str(record.status)).inc()
    if record.prompt_tokens:
        DURATION.observe(record.seconds)
        PROMPT_TOKENS.inc(record.prompt_tokens)
        GENERATED_TOKENS.inc(record.generated_tokens)
        if record.first_token is not None:
            FIRST_TOKEN.observe(record.first_token)
        for dimension in record.steered:
            STEERED.labels(dimension).inc()


def sample(served: ServedModel) -> None:
    """What can only be looked at: the engine's queue, and the registry."""
    READY.set(served.status == "ready")
    running = served.loaded
    if running is None:
        return
    stats = running.engine.stats()
    ACTIVE.set(stats.active)
    QUEUED.set(stats.queued)
    MEAN_BATCH.set(stats.mean_batch)
    BANK_SWAPS.set(running.catalog.swaps)
    REGISTRY.set(running.catalog.health.answers)


def follow(served: ServedModel, seconds: float = 1.0) -> None:
    """Sample every so many seconds on a thread of its own, as long as the process lives."""

    def run() -> None:
        while True:
            sample(served)
            time.sleep(seconds)

    threading.Thread(target=run, name="metrics", daemon=True).start()


def _route(record: RequestRecord) -> str:
    """The path without what varies in it, so that the number of series stays bounded."""
    if record.status in (404, 405):
        return "other"
    if record.path.startswith("/v1/steering/vectors/"):
        return "/v1/steering/vectors/{name}/versions/{version}"
    if record.path.startswith("/v1/models/"):
        return "/v1/models/{id}"
    return "/playground" if record.path.startswith("/playground/") else record.path
