"""Prometheus metrics of the service. Every label comes from a bounded set, whatever clients send."""

import os
import re
import threading
import time
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from serving.api.request_record import RequestRecord
from serving.served_model import ServedModel

DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"
"""Variable of the folder in which the workers of one service keep their metrics together."""

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"})
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)

REQUESTS = Counter("trusttrace_requests", "HTTP requests", ["method", "route", "status"])
DURATION = Histogram("trusttrace_request_seconds", "Seconds from request to the end of its answer", buckets=SECONDS)
FIRST_TOKEN = Histogram("trusttrace_first_token_seconds", "Seconds to the first token of a stream", buckets=SECONDS)
PROMPT_TOKENS = Counter("trusttrace_prompt_tokens", "Prompt tokens of answered requests")
CACHED_TOKENS = Counter(
    "trusttrace_cached_prompt_tokens", "Prompt tokens that were not read again: the prefix cache had them"
)
GENERATED_TOKENS = Counter("trusttrace_generated_tokens", "Generated tokens of answered requests")
STEERED = Counter("trusttrace_steered_requests", "Requests that steered a dimension", ["dimension"])
READINGS = Histogram(
    "trusttrace_probe_reading",
    "P(trustworthy) at each token of monitored answers",
    ["dimension", "variant"],
    buckets=(0.01, 0.05, *(tenth / 10 for tenth in range(1, 10)), 0.95, 0.99, 1.0),
)
VARIANTS = Counter("trusttrace_variant_requests", "Requests by the alias that steered", ["dimension", "variant"])
VARIANT_ANSWERS = Counter(
    "trusttrace_variant_answers",
    "Answers by the alias that steered, and how they ended",
    ["dimension", "variant", "finish_reason"],
)
VARIANT_TOKENS = Counter(
    "trusttrace_variant_generated_tokens", "Generated tokens by the alias that steered", ["dimension", "variant"]
)
FILTERED = Counter("trusttrace_filtered_answers", "Answers that a monitor ended")
ACTIVE = Gauge("trusttrace_active", "Requests that have a slot", multiprocess_mode="livesum")
QUEUED = Gauge("trusttrace_queued", "Requests that wait for a slot", multiprocess_mode="livesum")
MEAN_BATCH = Gauge("trusttrace_mean_batch", "Generated tokens per step since the start", multiprocess_mode="livemax")
BANK_SWAPS = Gauge("trusttrace_bank_swaps", "Replacements of the served vectors", multiprocess_mode="livemax")
READY = Gauge("trusttrace_ready", "Whether the service can answer", multiprocess_mode="livemin")
REGISTRY_ANSWERS = Gauge(
    "trusttrace_registry_answers", "Whether the registry answered last", multiprocess_mode="livemin"
)


def observe(record: RequestRecord) -> None:
    """Count one request that has ended."""
    method = record.method if record.method in METHODS else "other"
    REQUESTS.labels(method, record.route, str(record.status)).inc()
    if record.prompt_tokens:
        DURATION.observe(record.seconds)
        PROMPT_TOKENS.inc(record.prompt_tokens)
        CACHED_TOKENS.inc(record.cached_tokens)
        GENERATED_TOKENS.inc(record.generated_tokens)
        if record.first_token is not None:
            FIRST_TOKEN.observe(record.first_token)
        for dimension in record.dimensions:
            STEERED.labels(dimension).inc()
        FILTERED.inc(record.filtered)
        for dimension, reading in record.all_readings():
            READINGS.labels(dimension, record.variant).observe(reading)
        for dimension, variant in record.variants.items():
            VARIANTS.labels(dimension, variant).inc()
            VARIANT_TOKENS.labels(dimension, variant).inc(record.generated_tokens)
            for reason, count in record.finish_reasons.items():
                VARIANT_ANSWERS.labels(dimension, variant, reason).inc(count)


def sample(served: ServedModel) -> None:
    """Record the state of the engine's queue and of the registry."""
    READY.set(served.status == "ready")
    loaded = served.loaded
    if loaded is None:
        return
    stats = loaded.engine.stats()
    ACTIVE.set(stats.active)
    QUEUED.set(stats.queued)
    MEAN_BATCH.set(stats.mean_batch)
    BANK_SWAPS.set(loaded.catalog.swaps)
    REGISTRY_ANSWERS.set(loaded.catalog.health.answers)


def follow(served: ServedModel, seconds: float = 1.0) -> None:
    """Sample every so many seconds on a thread of its own, as long as the process lives."""

    def run() -> None:
        while True:
            sample(served)
            time.sleep(seconds)

    threading.Thread(target=run, name="metrics", daemon=True).start()


def exposition() -> bytes:
    """Every worker's metrics in Prometheus' text format; gauges of workers that have died are dropped."""
    directory = os.environ.get(DIRECTORY)
    if directory is None:
        return generate_latest(REGISTRY)
    for path in Path(directory).glob("gauge_live*_*.db"):
        process = int(path.stem.rpartition("_")[2])
        if not Path(f"/proc/{process}").exists():
            mark_process_dead(process, directory)  # type: ignore[no-untyped-call]
    registry = CollectorRegistry()
    MultiProcessCollector(registry, directory)  # type: ignore[no-untyped-call]
    return generate_latest(registry)


@lru_cache(maxsize=1024)
def _pattern(template: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\\{\w+\\}", ".+", re.escape(template)))


def route_label(path: str, templates: Sequence[str]) -> str:
    """The template of ``path``, such as ``/v1/models/{model_id}``; ``other`` for a path that the service lacks."""
    return next((template for template in reversed(templates) if _pattern(template).fullmatch(path)), "other")
