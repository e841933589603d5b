"""Rates of the engine over vLLM and of the slot engine, in turns; run by a Python that has vLLM, as JSON on stdout.

Both engines run on the same model, prompts and strengths, as the service runs them; each figure is the best of its
rounds.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import psutil

from serving.engine.base import Engine, GenerationRequest, Sampling
from serving.engine.slots.engine import SlotEngine
from serving.engine.slots.kernels import Kernels
from serving.engine.vllm.engine import VllmEngine
from serving.engine.vllm.version import installed_release
from serving.model.language_model import load
from serving.model.sources import find_series
from serving.steering.plan import Add, SteeringPlan
from tests.bench.bank import random_bank
from tests.bench.timing import best_rates
from tests.threads import in_passing

CONCURRENT = 16


def run(engine: Engine, vocabulary: int, plans: Sequence[SteeringPlan], count: int, at_once: int, tokens: int) -> int:
    """Greedy answers to fresh prompts of 32 tokens, so that no cache of prompts helps; the number of tokens."""
    prompts = np.random.default_rng(time.perf_counter_ns()).integers(0, vocabulary, (count, 32)).tolist()
    sampling = Sampling(tokens, temperature=0.0, ignore_eos=True)
    asked = [GenerationRequest(tuple(prompt), sampling, plans[n % len(plans)]) for n, prompt in enumerate(prompts)]
    for begin in range(0, count, at_once):
        for generation in [engine.submit(request) for request in asked[begin : begin + at_once]]:
            generation.result()
    return count * tokens


@contextmanager
def stopped(processes: Sequence[psutil.Process]) -> Iterator[None]:
    """While open, ``processes`` do not run: those of vLLM look for work even where there is none."""
    for process in processes:
        process.suspend()
    try:
        yield
    finally:
        for process in processes:
            process.resume()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2", help="[%(default)s]")
    parser.add_argument("--precision", default="bfloat16", help="[%(default)s]")
    parser.add_argument("--rounds", type=int, default=3, help="[%(default)s]")
    parser.add_argument("--eager", action="store_true", help="without torch.compile in vLLM")
    given = parser.parse_args()
    checkpoint = find_series(given.model).checkpoints[-1]
    model = in_passing(lambda: load(checkpoint, precision=given.precision))
    bank = random_bank(model, dict.fromkeys(range(model.n_layers), 1.0))
    size = model.network.get_input_embeddings().num_embeddings
    strengths = np.random.default_rng(1).uniform(0.1, 1.0, (256, len(bank.vectors)))
    plans = [SteeringPlan(bank, tuple(map(Add, bank.vectors, setting.tolist()))) for setting in strengths]
    settings = {"none": [SteeringPlan(bank)], "five": plans[:1], "many": plans}
    # vLLM's CPU worker forks its own threads; the engines take turns and are idle meanwhile.
    with (
        in_passing(lambda: SlotEngine(model, slots=CONCURRENT, kernels=Kernels(four_bit=True))) as slots,
        VllmEngine(model, slots=CONCURRENT, window=512, arguments={"enforce_eager": given.eager}) as vllm,
    ):
        processes = psutil.Process().children(recursive=True)

        def rate_of(engine: Engine, steered: Sequence[SteeringPlan], count: int, at_once: int) -> Callable[[], int]:
            def work() -> int:
                with stopped([] if engine is vllm else processes):
                    return run(engine, size, steered, count, at_once, 48)

            return work

        engines: dict[str, Engine] = {"slots": slots, "vllm": vllm}
        work = {
            f"{name} {setting}": rate_of(engine, steered, CONCURRENT, CONCURRENT)
            for setting, steered in settings.items()
            for name, engine in engines.items()
        }
        for name, engine in engines.items():
            work[f"{name} serial"] = rate_of(engine, settings["none"], 2, 1)
        rates = best_rates(work, given.rounds)
    print(json.dumps({"version": installed_release(), "rates": rates}))


if __name__ == "__main__":
    sys.exit(main())
