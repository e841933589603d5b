"""Extras of a request, each beside the same request without: a monitor, log-probabilities, a JSON schema."""

from collections.abc import Callable
from typing import Any

from serving.engine.base import GenerationRequest, Sampling
from serving.engine.slots.engine import SlotEngine
from serving.model.language_model import load
from serving.model.sources import find_series
from serving.steering.bank import SteeringBank
from serving.steering.monitor import Monitor
from tests.bench.bank import random_bank, tenths
from tests.bench.engine import CONCURRENT, plans, prompts_of
from tests.bench.table import Comparison
from tests.bench.timing import paired_ratio, processor_seconds
from tests.threads import threads_of_torch

TOKENS = 24
TOP = 5
LONG_TEXT = {"type": "string", "minLength": 200}
"""A schema by which no answer ends before its last token."""


def ask(engine: SlotEngine, bank: SteeringBank, monitor: Monitor | None = None, **sampled: Any) -> None:
    """A greedy request a slot, unsteered, with ``sampled`` for further fields of how they are drawn."""
    sampling = Sampling(TOKENS, temperature=0.0, ignore_eos=True, **sampled)
    (none,) = plans(bank, 1, 0)
    asked = [GenerationRequest(prompt, sampling, none, monitor) for prompt in prompts_of(engine.model, CONCURRENT)]
    for generation in [engine.submit(request) for request in asked]:
        generation.result()


def compare_extras(
    model_name: str, pairs: int, once: Callable[[Callable[[], Any]], float] = processor_seconds
) -> list[Comparison]:
    """Pairs in turn, as for what steering costs, by processor time of one thread, for others spin while they wait.

    ``once`` as for ``paired_ratio``.
    """
    model = load(find_series(model_name).checkpoints[-1], precision="bfloat16")
    bank = random_bank(model, tenths(model))
    cases: tuple[tuple[str, str, dict[str, Any]], ...] = (
        ("monitor", f"reading every token by {len(bank.vectors)} probes", {"monitor": Monitor(bank.vectors)}),
        ("logprobs", f"log-probabilities with {TOP} alternatives", {"top_logprobs": TOP}),
        ("schema", "following a JSON schema", {"schema": LONG_TEXT}),
    )
    rows = []
    with threads_of_torch(1), SlotEngine(model, slots=CONCURRENT) as engine:
        for key, what, extra in cases:
            ask(engine, bank, **extra)  # tables of the tokenizer are made once
            ours, theirs, *ratios = paired_ratio(
                lambda extra=extra: ask(engine, bank, **extra),  # type: ignore[misc]
                lambda: ask(engine, bank),
                pairs,
                once,
            )
            rates = [f"{CONCURRENT * TOKENS / taken:.0f} tokens/s of processor time" for taken in (ours, theirs)]
            described = f"{what}, {pairs} pairs of {CONCURRENT} requests"
            rows.append(
                Comparison.more(f"engine/{key}", described, rates[0], f"{rates[1]} without", ratios, at_most=1.0)
            )
    return rows
