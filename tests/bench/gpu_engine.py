"""The slot engine on one device: exact, how fast beside ``generate`` and its floor, and what steering costs there."""

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import cycle

import numpy as np
import torch

from serving.engine.base import Completion, GenerationRequest, Sampling
from serving.engine.slots.engine import SlotEngine
from serving.model.language_model import LanguageModel
from serving.model.residual_stream import steering
from serving.steering.plan import Add, SteeringPlan
from tests.bench.bank import random_bank, tenths
from tests.bench.engine import plans
from tests.bench.random_networks import random_model
from tests.bench.samples import Samples
from tests.bench.table import Comparison
from tests.bench.timing import paired_ratio

Where = dict[str, dict[str, float]]
"""By piece of work, the lines that its time goes to."""

SETTINGS = 256
PROMPT_LENGTHS = (16, 40, 24, 64)
SHORT = 4
"""Tokens of a short run; what a longer one takes beyond it is the time of its further steps."""


def random_prompts(model: LanguageModel, count: int) -> list[tuple[int, ...]]:
    generator, words = np.random.default_rng(0), len(model.tokenizer)
    lengths = [PROMPT_LENGTHS[number % len(PROMPT_LENGTHS)] for number in range(count)]
    return [tuple(generator.integers(1, words, length).tolist()) for length in lengths]


def answers(
    engine: SlotEngine,
    prompts: Sequence[tuple[int, ...]],
    tokens: int,
    steered: Sequence[SteeringPlan],
    *,
    top_logprobs: int | None = None,
) -> list[Completion]:
    """Greedy answers of so many tokens, all requests at once."""
    settings = Sampling(tokens, temperature=0.0, ignore_eos=True, top_logprobs=top_logprobs)
    requests = [GenerationRequest(prompt, settings, steered[n % len(steered)]) for n, prompt in enumerate(prompts)]
    return [generation.result() for generation in [engine.submit(request) for request in requests]]


def generate(model: LanguageModel, prompts: Sequence[Sequence[int]], tokens: int) -> list[list[int]]:
    """The same by ``generate`` on one static batch, padded on the left."""
    longest = max(map(len, prompts))
    rows = [[0] * (longest - len(prompt)) + list(prompt) for prompt in prompts]
    mask = [[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    ids, attended = (torch.tensor(values, device=model.device) for values in (rows, mask))
    with torch.inference_mode():
        found = model.network.generate(
            ids, attention_mask=attended, do_sample=False, max_new_tokens=tokens, pad_token_id=0
        )
    return found[:, longest:].tolist()


def steered_alone(model: LanguageModel, prompt: Sequence[int], plan: SteeringPlan, tokens: int) -> tuple[int, ...]:
    """Greedy tokens by the plain model on the whole sequence for every token: no cache, no batch, no slots."""
    sequence, length = list(prompt), len(prompt)
    for _ in range(tokens):
        phases = ["prompt"] * (length - 1) + ["last_prompt"] + ["generation"] * (len(sequence) - length)
        offsets = {
            layer: torch.from_numpy(np.stack([plan.offset(layer, phase) for phase in phases])).to(model.device)
            for layer in plan.layers
        }
        with torch.inference_mode(), steering(model.network, offsets):
            logits = model.network(torch.tensor([sequence], device=model.device), use_cache=False).logits
        sequence.append(int(logits[0, -1].argmax()))
    return tuple(sequence[length:])


def check_exactness(shape: str, device: str) -> Iterator[Comparison]:
    """Float32: tokens by the engine are those of ``generate`` and of the plain loop; strength 0 changes no bit."""
    model = random_model(shape, device, torch.float32)
    bank = random_bank(model, tenths(model))
    prompts, settings = random_prompts(model, 16), plans(bank, 16, len(bank.vectors))
    truth = [tuple(generate(model, [prompt], 48)[0]) for prompt in prompts]
    steered_truth = [steered_alone(model, *pair, 12) for pair in zip(prompts[:8], settings, strict=False)]
    with SlotEngine(model, slots=16) as engine:
        plain = [answer.tokens for answer in answers(engine, prompts, 48, [SteeringPlan(bank)])]
        mixed = [answer.tokens for answer in answers(engine, prompts, 12, settings)]
        nothing = SteeringPlan(bank, tuple(Add(vector, 0.0) for vector in bank.vectors))
        pairs = [
            [answers(engine, [prompt], 24, [plan], top_logprobs=5)[0].events for plan in (SteeringPlan(bank), nothing)]
            for prompt in prompts[:4]
        ]
    distinct = len({token for tokens in truth for token in tokens})
    yield _equal("tokens", f"float32 answers of 48 tokens, {distinct} distinct, as by `generate` alone", plain, truth)
    yield _equal("steered", "the same steered, each as it sets, as by the plain loop", mixed[:8], steered_truth)
    both = [list(events) for events in zip(*pairs, strict=True)]
    yield _equal("zero", "log-probabilities at strength 0, bit by bit as unsteered", *both)


def _equal(key: str, what: str, found: Sequence[object], wanted: Sequence[object]) -> Comparison:
    n_equal = sum(answer == true for answer, true in zip(found, wanted, strict=True))
    share = n_equal / len(wanted)
    return Comparison(f"exact/{key}", what, f"{n_equal} equal", f"{len(wanted)}", share, "x", at_least=1)


def compare_rates(shape: str, device: str, counts: Sequence[int], tokens: int, where: Where) -> Iterator[Comparison]:
    """Tokens a second and a step's time at several numbers of requests, against ``generate`` and the floor."""
    model = random_model(shape, device)
    none, least = [SteeringPlan(random_bank(model, tenths(model)))], reading_seconds(model)
    for count in counts:
        prompts = random_prompts(model, count)
        with SlotEngine(model, slots=max(counts), queue_limit=SETTINGS, window=512) as engine:
            run = partial(answers, engine, prompts, steered=none)
            whole, step = _times(run, tokens)
            with Samples(engine._thread) as samples:
                run(tokens)
        where[f"{shape}, {count} requests"] = samples.shares()
        theirs, their_step = _times(partial(generate, model, prompts), tokens)
        what = f"{count} request{'s' if count > 1 else ''} of {tokens} tokens, {shape} {_dtype(model)}"
        yield Comparison(
            f"{shape}/generate_{count}",
            what,
            _rate(count * tokens / whole, step),
            f"{_rate(count * tokens / theirs, their_step)} by `generate` on a static batch",
            theirs / whole,
            "x",
        )
        against = f"{1e3 * least:.2f} ms to read every weight once"
        yield Comparison(
            f"{shape}/floor_{count}", "the same: a step", f"{1e3 * step:.2f} ms", against, step / least, "x"
        )


def compare_steering(shape: str, device: str, count: int, tokens: int, seconds: float) -> Iterator[Comparison]:
    """What five dimensions, and 256 settings, cost over unsteered: pairs in turn for about so many seconds each."""
    model = random_model(shape, device)
    bank = random_bank(model, tenths(model))
    prompts, none = random_prompts(model, count), [SteeringPlan(bank)]
    cases = (("five", "steering five dimensions", 1), ("distinct", f"{SETTINGS} distinct settings", SETTINGS))
    with SlotEngine(model, slots=count, queue_limit=SETTINGS, window=512) as engine:
        run = partial(answers, engine, prompts, tokens)
        run(none)
        took = _seconds(lambda: run(none))
        pairs = int(min(80, max(4, seconds / (2 * took))))
        for key, what, settings in cases:
            steered = plans(bank, settings, len(bank.vectors))
            windows = cycle([steered[start : start + count] for start in range(0, settings, count)])
            run(next(windows))
            ours, theirs, *ratios = paired_ratio(lambda windows=windows: run(next(windows)), lambda: run(none), pairs)  # type: ignore[misc]
            percent, low, high = (100 * (ratio - 1) for ratio in ratios)
            rates = [f"{count * tokens / took:.0f} tokens/s" for took in (ours, theirs)]
            name = f"{what}, {shape}, {pairs} pairs of {count} requests of {tokens} tokens"
            against = f"{rates[1]} unsteered"
            key = f"{shape}/steering_{key}"
            yield Comparison(key, name, rates[0], against, percent, "%", at_most=1.0, interval=(low, high))


def reading_seconds(model: LanguageModel) -> float:
    """The least time of a step: to read every weight once, at the rate at which a large block is read here."""
    weights = {id(weight): weight.nbytes for weight in model.network.parameters() if weight.ndim == 2}
    if not model.network.config.tie_word_embeddings:
        weights.pop(id(model.network.get_input_embeddings().weight))
    block = torch.ones(2**29 if model.device.type == "cuda" else 2**24, dtype=torch.bfloat16, device=model.device)

    def read() -> None:
        block.amax()
        synchronise(model.device)

    read()
    return sum(weights.values()) * min(_seconds(read) for _ in range(5)) / block.nbytes


def _times(run: Callable[[int], object], tokens: int) -> tuple[float, float]:
    """Seconds of a run of ``tokens`` steps, and of one of its steps: the best of two, after one to warm up."""
    run(SHORT)
    short, whole = (min(_seconds(lambda n=n: run(n)) for _ in range(2)) for n in (SHORT, tokens))  # type: ignore[misc]
    return whole, (whole - short) / (tokens - SHORT)


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _rate(tokens: float, step: float) -> str:
    return f"{tokens:.0f} tokens/s ({1e3 * step:.2f} ms a step)"


def _dtype(model: LanguageModel) -> str:
    return str(model.dtype).removeprefix("torch.")
