"""The slot engine against serial requests, `generate` and itself unsteered, side by side.

Rates are measured in turn, round after round, and each is the best of its rounds: what the work costs when nothing
disturbs it. What steering costs is smaller than a machine's noise, so it is the median of pairs measured in turn.
"""

import time
from collections.abc import Callable, Sequence
from itertools import cycle

import numpy as np
import torch

from serving.engine.base import GenerationRequest, Sampling
from serving.engine.slots.engine import SlotEngine
from serving.engine.slots.four_bit import FEW_ROWS
from serving.engine.slots.kernels import Kernels
from serving.model.language_model import LanguageModel, load
from serving.model.sources import find_series
from serving.steering.bank import SteeringBank
from serving.steering.plan import Add, SteeringPlan
from tests.bench.bank import random_bank, tenths
from tests.bench.table import Comparison
from tests.bench.timing import best_rates, median_ratio, paired_ratio
from tests.threads import in_passing

CONCURRENT = 16
SETTINGS = 256
BURST = 32
"""Requests at once where what steering costs is measured: the slots twice over."""
FIRST_TURN, MORE = 1000, 30
"""Tokens of a chat's first question, and of the answer and the question that follow."""
TEXTS = (
    "The city of",
    "Is it true that bats are blind?",
    "Here is a short letter to a neighbour who plays the piano late at night. Dear neighbour,",
    "The recipe begins with two onions, a little butter and patience. Chop the onions finely, melt the butter over a "
    "low flame, and wait until the kitchen smells of autumn. Then",
)


def plans(bank: SteeringBank, settings: int, dimensions: int) -> list[SteeringPlan]:
    """As many distinct settings of the first ``dimensions`` vectors."""
    strengths = np.random.default_rng(1).uniform(0.1, 1.0, (settings, dimensions))
    vectors = bank.vectors[:dimensions]
    return [SteeringPlan(bank, tuple(map(Add, vectors, setting.tolist()))) for setting in strengths]


def text_of(number: int) -> str:
    return TEXTS[number % len(TEXTS)]


def prompts_of(model: LanguageModel, count: int) -> list[tuple[int, ...]]:
    return [tuple(model.tokenizer(text_of(number))["input_ids"]) for number in range(count)]


def submit_all(engine: SlotEngine, count: int, tokens: int, steered: Sequence[SteeringPlan], at_once: int) -> int:
    """Run ``count`` greedy requests, ``at_once`` of them together; the number of generated tokens."""
    sampling = Sampling(tokens, temperature=0.0, ignore_eos=True)
    prompts = prompts_of(engine.model, count)
    asked = [
        GenerationRequest(prompt, sampling, steered[number % len(steered)]) for number, prompt in enumerate(prompts)
    ]
    for begin in range(0, count, at_once):
        for generation in [engine.submit(request) for request in asked[begin : begin + at_once]]:
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


def floor_seconds(model: LanguageModel, rows: int) -> tuple[float, float]:
    """The least time of a step of ``rows`` tokens: to read every weight once, and to multiply by every weight."""
    weights = sum(weight.numel() for weight in model.network.parameters() if weight.ndim == 2)
    block = torch.randn(2**27)
    reading = min(_seconds(lambda: block.sum()) for _ in range(5)) / (block.numel() * 4)
    left, right = (torch.randn(2048, 2048).to(model.dtype) for _ in range(2))
    multiplying = min(_seconds(lambda: left @ right) for _ in range(5)) / 2048**3
    return weights * model.dtype.itemsize * reading, rows * weights * multiplying


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def compare_concurrency(engine: SlotEngine, plain: LanguageModel, bank: SteeringBank, rounds: int) -> list[Comparison]:
    none = plans(bank, 1, 0)
    rates = best_rates(
        {
            "serial": lambda: submit_all(engine, 4, 48, none, 1),
            "concurrent": lambda: submit_all(engine, CONCURRENT, 48, none, CONCURRENT),
            "generate, one": lambda: in_passing(lambda: generate(plain, 1, 48)),
            "generate, batch": lambda: in_passing(lambda: generate(plain, CONCURRENT, 48)),
        },
        rounds,
    )
    serial, concurrent, alone, batch = rates.values()
    here = f"{concurrent:.0f} tokens/s"
    what = f"{CONCURRENT} concurrent requests, `{plain.checkpoint.model}` bfloat16"
    rows = [
        Comparison("engine/concurrent", what, here, f"{serial:.0f} one after another", concurrent / serial, "x", 3.3),
        Comparison(
            "engine/generate_batch",
            "the same",
            here,
            f"{batch:.0f} by `generate` on a static batch of {CONCURRENT}",
            concurrent / batch,
            "x",
            1.5,
        ),
        Comparison(
            "engine/generate_one",
            "one request at a time",
            f"{serial:.0f} tokens/s",
            f"{alone:.0f} by `generate`",
            serial / alone,
            "x",
        ),
    ]
    for count, rate in ((1, serial), (CONCURRENT, concurrent)):
        reading, multiplying = in_passing(lambda count=count: floor_seconds(plain, count))  # type: ignore[misc]
        step, least = count / rate, max(reading, multiplying)
        parts = f"to read every weight {1e3 * reading:.1f}, to multiply {1e3 * multiplying:.1f}"
        against = f"{1e3 * least:.1f} ms, its floor: {parts}"
        what = f"a step of {count} token{'s' if count > 1 else ''}"
        rows.append(Comparison(f"engine/floor_{count}", what, f"{1e3 * step:.1f} ms", against, step / least, "x"))
    return rows


def compare_steering(engine: SlotEngine, bank: SteeringBank, pairs: int) -> list[Comparison]:
    """Many short pairs: a machine's speed drifts by more than steering costs, but little within two seconds."""
    everything = len(bank.vectors)
    cases = (
        ("steered_against_unsteered", "steering all five dimensions", everything, 1, 0, "unsteered", 1.0),
        ("steered_against_one", "steering all five dimensions", everything, 1, 1, "with one dimension", 1.0),
        ("distinct", f"{SETTINGS} distinct settings", everything, SETTINGS, everything, "with one", 1.0),
    )
    rows = []
    for key, what, dimensions, settings, theirs, name, most in cases:
        given, base = plans(bank, settings, dimensions), plans(bank, 1, theirs)
        windows = cycle([given[start : start + BURST] for start in range(0, settings, BURST)])
        ours, against, *ratio = paired_ratio(
            lambda windows=windows: submit_all(engine, BURST, 8, next(windows), BURST),  # type: ignore[misc]
            lambda base=base: submit_all(engine, BURST, 8, base, BURST),  # type: ignore[misc]
            pairs,
        )
        rates = [f"{BURST * 8 / taken:.0f} tokens/s" for taken in (ours, against)]
        described = f"{what}, {pairs} pairs of {BURST} requests"
        rows.append(Comparison.more(f"engine/{key}", described, rates[0], f"{rates[1]} {name}", ratio, at_most=most))
    return rows


def compare_four_bit(engine: SlotEngine, in_bfloat16: SlotEngine, bank: SteeringBank, pairs: int) -> list[Comparison]:
    """Steps of few tokens by the weights as a quantised file has them, beside the same steps in bfloat16 alone."""
    none, rows = plans(bank, 1, 0), []
    for count in (1, FEW_ROWS):
        ours, theirs, ratio, low, high = paired_ratio(
            lambda count=count: submit_all(in_bfloat16, count, 24, none, count),  # type: ignore[misc]
            lambda count=count: submit_all(engine, count, 24, none, count),  # type: ignore[misc]
            pairs,
        )
        rates = [f"{count * 24 / taken:.0f} tokens/s" for taken in (theirs, ours)]
        what = f"{count} request{'s at once' if count > 1 else ''} of 24 tokens, weights in four bits, {pairs} pairs"
        rows.append(
            Comparison(
                f"engine/four_bit_{count}", what, rates[0], f"{rates[1]} in bfloat16", ratio, "x", interval=(low, high)
            )
        )
    return rows


def compare_second_turn(model: LanguageModel, bank: SteeringBank, chats: int) -> Comparison:
    """Seconds to the first token of a chat's second answer, beside those of its first, which nothing was read for."""
    generator, none = np.random.default_rng(0), plans(bank, 1, 0)[0]
    vocabulary = int(model.network.get_input_embeddings().num_embeddings)
    times = np.empty((chats, 2))
    with in_passing(lambda: SlotEngine(model, prefix_cache=2**28, kernels=Kernels(four_bit=True))) as engine:

        def answer(prompt: tuple[int, ...], tokens: int) -> tuple[int, ...]:
            sampling = Sampling(tokens, temperature=0.0, ignore_eos=True)
            return engine.submit(GenerationRequest(prompt, sampling, none)).result().tokens

        for chat in range(chats):
            prompt, more = (tuple(generator.integers(vocabulary, size=size).tolist()) for size in (FIRST_TURN, MORE))
            times[chat, 1] = _seconds(lambda prompt=prompt: answer(prompt, 1))  # type: ignore[misc]
            second = (*prompt, *answer(prompt, MORE), *more)
            times[chat, 0] = _seconds(lambda second=second: answer(second, 1))  # type: ignore[misc]
    ours, theirs, ratio, low, high = median_ratio(times)
    return Comparison(
        "engine/second_turn",
        f"first token of a second turn, {MORE} tokens answered and {MORE} more asked, {chats} chats",
        f"{1e3 * ours:.0f} ms",
        f"{1e3 * theirs:.0f} ms of the first turn of {FIRST_TURN} tokens",
        ratio,
        "x",
        at_most=0.15,
        interval=(low, high),
    )


def compare_engine(model_name: str, rounds: int, pairs: int) -> list[Comparison]:
    """In a process of its own, whose other threads that call torch end, so that the engine's spin as a service's do."""
    checkpoint = find_series(model_name).checkpoints[-1]
    plain, served = (in_passing(lambda: load(checkpoint, precision="bfloat16")) for _ in range(2))
    bank = in_passing(lambda: random_bank(plain, tenths(plain)))
    kernels = Kernels(four_bit=True)
    with in_passing(lambda: SlotEngine(served, slots=CONCURRENT, queue_limit=SETTINGS, kernels=kernels)) as engine:
        rows = [*compare_concurrency(engine, plain, bank, rounds), *compare_steering(engine, bank, pairs)]
        with SlotEngine(plain, slots=CONCURRENT, queue_limit=SETTINGS) as in_bfloat16:
            rows += compare_four_bit(engine, in_bfloat16, bank, pairs // 4)
    return [*rows, compare_second_turn(served, bank, pairs // 8)]
