"""The slot engine on one device: exact, how fast beside ``generate`` and its floor, and what steering costs there."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import cycle

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from serving.engine.base import Completion, GenerationRequest, Sampling
from serving.engine.slots.attention import _by_products
from serving.engine.slots.engine import SlotEngine
from serving.engine.slots.kernels import Kernels
from serving.model.language_model import LanguageModel
from serving.model.residual_stream import steering
from serving.steering.plan import Add, SteeringPlan
from tests.bench.bank import random_bank, tenths
from tests.bench.engine import plans
from tests.bench.random_networks import SHAPES, random_model
from tests.bench.samples import Samples
from tests.bench.table import Comparison
from tests.bench.timing import paired_ratio

Where = dict[str, dict[str, float]]
"""By piece of work, the lines that its time goes to."""

SETTINGS = 256
PROMPT_LENGTHS = (16, 40, 24, 64)
VARIANTS = (("plain", "step by step", False), ("graphs", "CUDA graphs", True))
"""How the engine decodes: a key, in words, and whether it replays recorded steps."""
CAPACITY = 256
"""Positions of a pool's slots, which two products read whole."""
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


def check_exactness(shape: str, device: str, tokens: int) -> Iterator[Comparison]:
    """Float32: tokens by the engine are those of ``generate`` and of the plain loop; strength 0 changes no bit."""
    model = random_model(shape, device, torch.float32)
    bank = random_bank(model, tenths(model))
    prompts, settings = random_prompts(model, 16), plans(bank, 16, len(bank.vectors))
    none, nothing = SteeringPlan(bank), SteeringPlan(bank, tuple(Add(vector, 0.0) for vector in bank.vectors))
    truth = [tuple(generate(model, [prompt], tokens)[0]) for prompt in prompts]
    steered_truth = [steered_alone(model, *pair, 12) for pair in zip(prompts[:8], settings, strict=False)]
    distinct = len({token for tokens in truth for token in tokens})
    for key, how, graphs in VARIANTS:
        with SlotEngine(model, slots=16, kernels=Kernels(cuda_graphs=graphs)) as engine:
            plain = [answer.tokens for answer in answers(engine, prompts, tokens, [none])]
            mixed = [answer.tokens for answer in answers(engine, prompts, 12, settings)]
            unsteered, zero = (
                [answers(engine, [prompt], 24, [plan], top_logprobs=5)[0].events for prompt in prompts[:4]]
                for plan in (none, nothing)
            )
        what = f"float32 answers of {tokens} tokens, {distinct} distinct, as by `generate` alone; {how}"
        yield _equal(f"tokens_{key}", what, plain, truth)
        yield _equal(
            f"steered_{key}", "the same steered, each as it sets, as by the plain loop", mixed[:8], steered_truth
        )
        yield _equal(f"zero_{key}", "log-probabilities at strength 0, bit by bit as unsteered", zero, unsteered)


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
        theirs, their_step = _times(partial(generate, model, prompts), tokens)
        against = f"{_rate(count * tokens / theirs, their_step)} by `generate` on a static batch"
        for key, how, graphs in VARIANTS:
            with SlotEngine(
                model, slots=max(counts), queue_limit=SETTINGS, window=512, kernels=Kernels(cuda_graphs=graphs)
            ) as engine:
                run = partial(answers, engine, prompts, steered=none)
                whole, step = _times(run, tokens)
                if graphs or device == "cpu":
                    with Samples(engine._thread) as samples:
                        run(tokens)
                    name = f"{shape}, {count} requests, {how}"
                    where[name] = samples.shares()
                    where[f"{name}: recordings"] = recordings_of(engine)
                    where[f"{name}: ms on the GPU"] = kernel_times(lambda run=run: run(tokens))  # type: ignore[misc]
            what = f"{count} request{'s' if count > 1 else ''} of {tokens} tokens, {shape} {_dtype(model)}, {how}"
            here = _rate(count * tokens / whole, step)
            yield Comparison(f"{shape}/generate_{count}_{key}", what, here, against, theirs / whole, "x")
            floor = f"{1e3 * least:.2f} ms to read every weight once"
            here = f"{1e3 * step:.2f} ms"
            yield Comparison(f"{shape}/floor_{count}_{key}", "the same: a step", here, floor, step / least, "x")


def recordings_of(engine: SlotEngine) -> dict[str, float]:
    graphs = engine._runner._graphs
    return {"recordings": 0 if graphs is None else graphs.n_recordings}


def kernel_times(work: Callable[[], object], most: int = 16) -> dict[str, float]:
    """Milliseconds of the kernels that take longest; nothing without CUDA or its profiler."""
    if not torch.cuda.is_available():
        return {}
    try:
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
            work()
            torch.cuda.synchronize()
    except RuntimeError as error:
        return {f"the profiler failed: {error}": 0.0}
    kernels = sorted(profile.key_averages(), key=lambda kernel: -kernel.self_device_time_total)
    whole = {"all": sum(kernel.self_device_time_total for kernel in kernels) / 1e3}
    return {
        **whole,
        **{f"{kernel.key[:90]} x{kernel.count}": kernel.self_device_time_total / 1e3 for kernel in kernels[:most]},
    }


def compare_attention(shape: str, device: str, rows: int, length: int) -> Iterator[Comparison]:
    """Ways to attend from one token of every slot to the slots of a pool, as they lie there."""
    config = SHAPES[shape]
    heads, groups = config["num_attention_heads"], config["num_key_value_heads"]
    width = config["hidden_size"] // heads
    make = partial(torch.randn, dtype=torch.bfloat16, device=device)
    query = make(rows, groups, heads // groups, width)
    keys, values = (make(rows, groups, CAPACITY, width) for _ in range(2))
    last = torch.randint(1, length, (rows, 1, 1, 1), device=device)
    bias = make(rows, 1, 1, CAPACITY).fill_(-math.inf).masked_fill_(torch.arange(CAPACITY, device=device) <= last, 0)
    of_heads = bias[:, 0].repeat_interleave(groups, 0)
    attend = partial(scaled_dot_product_attention, query, keys[:, :, :length], values[:, :, :length])
    ways: dict[str, Callable[[], object]] = {
        "products": lambda: _by_products(query, keys, values, of_heads, None),
    }
    kernels = [SDPBackend.EFFICIENT_ATTENTION, SDPBackend.CUDNN_ATTENTION] if device != "cpu" else [SDPBackend.MATH]
    for kernel in kernels:
        ways[kernel.name] = _with_kernel(kernel, partial(attend, attn_mask=bias[..., :length]))
    times = {}
    for name, way in ways.items():
        try:
            times[name] = _device_seconds(way, torch.device(device))
        except RuntimeError as error:
            print(f"  {name} cannot: {str(error).splitlines()[0]}", flush=True)
    product = times.pop("products")
    what = f"attention of {rows} tokens to {length} positions each, a layer of {shape}"
    for name, took in times.items():
        against = f"{1e6 * product:.0f} µs by two products"
        key = f"attention/{shape}_{name.lower()}"
        yield Comparison(key, f"{what}, {name}", f"{1e6 * took:.0f} µs", against, product / took, "x")


def _with_kernel(kernel: SDPBackend, attend: Callable[[], object]) -> Callable[[], object]:
    def run() -> object:
        with sdpa_kernel(kernel):
            return attend()

    return run


def _device_seconds(work: Callable[[], object], device: torch.device, repeats: int = 100) -> float:
    """Of many runs in a row, so that the device is never idle."""
    work()
    synchronise(device)
    began = time.perf_counter()
    for _ in range(repeats):
        work()
    synchronise(device)
    return (time.perf_counter() - began) / repeats


def compare_steering(shape: str, device: str, count: int, tokens: int, seconds: float) -> Iterator[Comparison]:
    """What five dimensions, and 256 settings, cost over unsteered: pairs in turn for about so many seconds each."""
    model = random_model(shape, device)
    bank = random_bank(model, tenths(model))
    prompts, none = random_prompts(model, count), [SteeringPlan(bank)]
    cases = (("five", "steering five dimensions", 1), ("distinct", f"{SETTINGS} distinct settings", SETTINGS))
    with SlotEngine(model, slots=count, queue_limit=SETTINGS, window=512, kernels=Kernels(cuda_graphs=True)) as engine:
        run = partial(answers, engine, prompts, tokens)
        for _ in range(3):  # until the steps are recorded
            run(none)
        took = _seconds(lambda: run(none))
        pairs = int(min(80, max(4, seconds / (2 * took))))
        for key, what, settings in cases:
            steered = plans(bank, settings, len(bank.vectors))
            windows = cycle([steered[start : start + count] for start in range(0, settings, count)])
            for _ in range(3):
                run(next(windows))
            ours, theirs, *ratios = paired_ratio(lambda windows=windows: run(next(windows)), lambda: run(none), pairs)  # type: ignore[misc]
            rates = [f"{count * tokens / took:.0f} tokens/s" for took in (ours, theirs)]
            name = f"{what}, {shape}, {pairs} pairs of {count} requests of {tokens} tokens"
            against = f"{rates[1]} unsteered"
            key = f"{shape}/steering_{key}"
            yield Comparison.more(key, name, rates[0], against, ratios, at_most=1.0)


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
    """Seconds of a run of ``tokens`` steps, and of one of its steps: the best of two after others to warm up."""
    for _ in range(2):
        run(SHORT)
    run(tokens)
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
