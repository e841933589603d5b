"""Throughput of the engine over vLLM beside the slot engine's, side by side in one run: `make bench-vllm`.

Both run in the environment of vLLM, on the same model, prompts and strengths, in turns; each figure is the best of its
rounds. Run it on an otherwise idle machine.
"""

import argparse
import os
import sys
import time
from collections.abc import Sequence

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "0")

import numpy as np

from serving.engine.base import Engine, GenerationRequest, Sampling
from serving.engine.slot_engine import SlotEngine
from serving.engine.vllm_engine import VllmEngine
from serving.model.language_model import load
from serving.model.sources import find_series
from serving.model.steering_bank import SteeringPlan, VectorStrength, plan
from tests.bench.bank import random_bank
from tests.bench.timing import best_rates

CONCURRENT = 16


def run(engine: Engine, vocabulary: int, plans: Sequence[SteeringPlan], count: int, at_once: int, tokens: int) -> int:
    """Greedy answers to fresh prompts of 32 tokens, so that no cache of prompts helps; the number of tokens."""
    prompts = np.random.default_rng(time.perf_counter_ns()).integers(0, vocabulary, (count, 32)).tolist()
    sampling = Sampling(tokens, temperature=0.0, ignore_eos=True)
    asked = [GenerationRequest(tuple(prompt), sampling, plans[n % len(plans)]) for n, prompt in enumerate(prompts)]
    for begin in range(0, count, at_once):
        for generation in [engine.submit(one) for one in asked[begin : begin + at_once]]:
            generation.result()
    return count * tokens


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2", help="[%(default)s]")
    parser.add_argument("--precision", default="bfloat16", help="[%(default)s]")
    parser.add_argument("--rounds", type=int, default=3, help="[%(default)s]")
    parser.add_argument("--eager", action="store_true", help="without torch.compile in vLLM")
    given = parser.parse_args()
    model = load(find_series(given.model).checkpoints[-1], precision=given.precision)
    bank = random_bank(model, dict.fromkeys(range(model.n_layers), 1.0))
    size = model.network.get_input_embeddings().num_embeddings
    strengths = np.random.default_rng(1).uniform(0.1, 1.0, (256, len(bank.vectors)))
    plans = [plan(bank, [VectorStrength(row, float(one)) for row, one in enumerate(row_)]) for row_ in strengths]
    settings = {"unsteered": [plan(bank, [])], "five dimensions": plans[:1], "256 settings": plans}
    arguments = {"enforce_eager": given.eager}
    # vLLM's CPU worker forks its own threads; the engines take turns and are idle meanwhile.
    with (
        SlotEngine(model, slots=CONCURRENT) as slots,
        VllmEngine(model, slots=CONCURRENT, window=512, arguments=arguments) as vllm,
    ):
        engines: dict[str, Engine] = {"slots": slots, "vllm": vllm}
        work = {
            f"{name}, {CONCURRENT} at once, {setting}": lambda one=one, steered=steered: run(  # type: ignore[misc]
                one, size, steered, CONCURRENT, CONCURRENT, 48
            )
            for setting, steered in settings.items()
            for name, one in engines.items()
        }
        for name, one in engines.items():
            work[f"{name}, one after another"] = lambda one=one: run(one, size, settings["unsteered"], 2, 1, 48)  # type: ignore[misc]
        rates = best_rates(work, given.rounds)
    for name, rate in rates.items():
        print(f"{name}: {rate:.0f} tokens/s")
    for setting in settings:
        ratio = rates[f"vllm, {CONCURRENT} at once, {setting}"] / rates[f"slots, {CONCURRENT} at once, {setting}"]
        print(f"vllm over slots, {CONCURRENT} at once, {setting}: {ratio:.2f}x")
    print(f"one after another: {rates['vllm, one after another'] / rates['slots, one after another']:.2f}x")
    for name in engines:
        plain, five, many = (rates[f"{name}, {CONCURRENT} at once, {setting}"] for setting in settings)
        print(f"{name}: five dimensions cost {plain / five - 1:+.1%}, 256 settings {five / many - 1:+.1%} over one")


if __name__ == "__main__":
    sys.exit(main())
