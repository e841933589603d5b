"""The slot engine against serial requests, `generate` and itself unsteered, side by side in one run: `make bench`.

Everything is measured in turn, round after round, and each figure is the best of its rounds: what the work costs when
nothing disturbs it. Run it on an otherwise idle machine.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "0")

import numpy as np
import torch

from pipelines.cli import run_command
from registry.dimensions import DIMENSIONS
from registry.registered import RegisteredVector, vector_tags
from registry.vectors import Lineage, SteeringVector
from serving.engine.base import GenerationRequest, Sampling
from serving.engine.slot_engine import SlotEngine
from serving.model.language_model import LanguageModel, load
from serving.model.sources import find_series
from serving.model.steering_bank import LiveVector, SteeringBank, SteeringPlan, VectorStrength, plan, residual_norms

CONCURRENT = 16
SETTINGS = 256
TEXTS = (
    "The city of",
    "Is it true that bats are blind?",
    "Here is a short letter to a neighbour who plays the piano late at night. Dear neighbour,",
    "The recipe begins with two onions, a little butter and patience. Chop the onions finely, melt the butter over a "
    "low flame, and wait until the kitchen smells of autumn. Then",
)


def bank_of(model: LanguageModel) -> SteeringBank:
    """One random direction a dimension, each at a layer of its own, a tenth of the residual stream's length a unit."""
    norms, generator = residual_norms(model), np.random.default_rng(0)
    name = model.checkpoint.model
    lineage = Lineage(name, f"models:/ckpt.{name}/1", 0, "main", "-", "-", "random", "random", "-", "-", 0)
    vectors = []
    for number, dimension in enumerate(DIMENSIONS):
        layer = (number + 1) * model.n_layers // (len(DIMENSIONS) + 1)
        direction = generator.standard_normal(model.d_model)
        direction = (direction / np.linalg.norm(direction)).astype(np.float32)
        vector = SteeringVector(dimension, direction, norms[layer] / 10, layer, lineage, 1.0, 0.0)
        registered = RegisteredVector(f"steer.{name}.{dimension}", "1", "-", "-", vector_tags(vector, "-"))
        vectors.append(LiveVector(registered, vector))
    return SteeringBank(name, model.d_model, tuple(vectors))


def plans(bank: SteeringBank, settings: int, dimensions: int) -> list[SteeringPlan]:
    """As many distinct settings of the first ``dimensions`` vectors."""
    strengths = np.random.default_rng(1).uniform(0.1, 1.0, (settings, dimensions))
    return [plan(bank, [VectorStrength(row, float(value)) for row, value in enumerate(one)]) for one in strengths]


def prompts_of(model: LanguageModel, count: int) -> list[tuple[int, ...]]:
    return [tuple(model.tokenizer(TEXTS[number % len(TEXTS)])["input_ids"]) for number in range(count)]


def submit_all(engine: SlotEngine, count: int, tokens: int, steered: Sequence[SteeringPlan], at_once: int) -> int:
    """Run ``count`` greedy requests, ``at_once`` of them together; the number of generated tokens."""
    sampling = Sampling(tokens, temperature=0.0, ignore_eos=True)
    prompts = prompts_of(engine.model, count)
    asked = [
        GenerationRequest(prompt, sampling, steered[number % len(steered)]) for number, prompt in enumerate(prompts)
    ]
    for begin in range(0, count, at_once):
        for generation in [engine.submit(one) for one in asked[begin : begin + at_once]]:
            generation.result()
    return count * tokens


def generate(model: LanguageModel, count: int, tokens: int) -> int:
    """The same requests as one static batch, padded on the left."""
    prompts = prompts_of(model, count)
    longest = max(map(len, prompts))
    ids = torch.tensor([[0] * (longest - len(prompt)) + list(prompt) for prompt in prompts])
    mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    model.network.generate(
        ids, attention_mask=mask, do_sample=False, min_new_tokens=tokens, max_new_tokens=tokens, pad_token_id=0
    )
    return count * tokens


def best_rates(work: dict[str, Callable[[], int]], rounds: int) -> dict[str, float]:
    """Tokens per second of each piece of work, the best of some rounds."""
    rates = dict.fromkeys(work, 0.0)
    for _ in range(rounds):
        for name, run in work.items():
            began = time.perf_counter()
            tokens = run()
            rates[name] = max(rates[name], tokens / (time.perf_counter() - began))
    return rates


def floor_seconds(model: LanguageModel, rows: int) -> tuple[float, float]:
    """The least time of a step of ``rows`` tokens: to read every weight once, and to multiply by every weight."""
    weights = sum(one.numel() for one in model.network.parameters() if one.ndim == 2)
    block = torch.randn(2**27)
    reading = min(_seconds(lambda: block.sum()) for _ in range(5)) / (block.numel() * 4)
    left, right = (torch.randn(2048, 2048).to(model.dtype) for _ in range(2))
    multiplying = min(_seconds(lambda: left @ right) for _ in range(5)) / 2048**3
    return weights * model.dtype.itemsize * reading, rows * weights * multiplying


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def compare_concurrency(engine: SlotEngine, plain: LanguageModel, bank: SteeringBank, rounds: int) -> None:
    unsteered = plans(bank, 1, 0)
    rates = best_rates(
        {
            "serial": lambda: submit_all(engine, 4, 48, unsteered, 1),
            "concurrent": lambda: submit_all(engine, CONCURRENT, 48, unsteered, CONCURRENT),
            "generate, one": lambda: generate(plain, 1, 48),
            "generate, batch": lambda: generate(plain, CONCURRENT, 48),
        },
        rounds,
    )
    serial, concurrent, batch = rates["serial"], rates["concurrent"], rates["generate, batch"]
    print(f"{CONCURRENT} concurrent requests: {concurrent:.0f} tokens/s, one after another {serial:.0f}: ", end="")
    print(f"{concurrent / serial:.1f}x (at least 3.3)")
    print(f"generate on a static batch of {CONCURRENT}: {batch:.0f} tokens/s: {concurrent / batch:.2f}x (at least 1.5)")
    print(f"generate on one: {rates['generate, one']:.0f} tokens/s: {serial / rates['generate, one']:.2f}x")
    for rows, rate in ((1, serial), (CONCURRENT, concurrent)):
        reading, multiplying = floor_seconds(plain, rows)
        least = max(reading, multiplying)
        print(
            f"floor of a step of {rows}: {1e3 * reading:.1f} ms to read the weights, {1e3 * multiplying:.1f} ms ",
            end="",
        )
        print(
            f"to multiply: {rows / least:.0f} tokens/s; measured {rows / rate * 1e3:.1f} ms, {rate * least / rows:.0%}"
        )


def compare_steering(engine: SlotEngine, bank: SteeringBank, rounds: int) -> None:
    settings = {
        "unsteered": plans(bank, 1, 0),
        "one dimension": plans(bank, 1, 1),
        "all five dimensions": plans(bank, 1, len(bank.vectors)),
        f"all five, {SETTINGS} distinct settings": plans(bank, SETTINGS, len(bank.vectors)),
    }
    work = {
        name: lambda given=given: submit_all(engine, SETTINGS, 16, given, SETTINGS)  # type: ignore[misc]
        for name, given in settings.items()
    }
    rates = best_rates(work, rounds)
    for name, rate in rates.items():
        print(f"{name}: {rate:.0f} tokens/s")
    unsteered, _, all_five, distinct = rates.values()
    print(f"steering all five dimensions costs {unsteered / all_five - 1:+.1%} (at most 1 %)")
    print(f"{SETTINGS} distinct settings cost {all_five / distinct - 1:+.1%} over one (at most 3 %)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2", help="[%(default)s]")
    parser.add_argument("--rounds", type=int, default=4, help="[%(default)s]")
    given = parser.parse_args()
    checkpoint = find_series(given.model).checkpoints[-1]
    plain, served = (load(checkpoint, precision="bfloat16") for _ in range(2))
    bank = bank_of(plain)
    with SlotEngine(served, slots=CONCURRENT, queue_limit=SETTINGS) as engine:
        compare_concurrency(engine, plain, bank, given.rounds)
        compare_steering(engine, bank, given.rounds)


if __name__ == "__main__":
    sys.exit(run_command(lambda _: main()))
