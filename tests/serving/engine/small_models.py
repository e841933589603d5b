"""Small random models, a bank for them, and steered answers by the plainest loop as the truth to compare with."""

import asyncio
from dataclasses import replace

import numpy as np
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast

from registry.checkpoints import Checkpoint
from registry.records import RegisteredVector, vector_tags
from registry.vectors import Direction, Lineage, LinearProbe, SteeringVector
from serving.engine.base import GenerationRequest, Sampling
from serving.model.language_model import LanguageModel
from serving.model.residual_stream import steering
from serving.steering.bank import ServedVector, SteeringBank
from serving.steering.compatibility import ModelFacts
from serving.steering.plan import Add, ProbeCondition, Project, SteeringPlan, TokenScope

VOCABULARY = 96
DIGEST = "ab" * 32
SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 128,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
    # Weights so large that greedy answers vary from token to token instead of repeating one.
    "initializer_range": 0.3,
}


def facts(d_model=32, n_layers=3, model="small"):
    return ModelFacts(Checkpoint(model, "memory", "main", 0), DIGEST, d_model, n_layers)


def small_model(config, seed=0, dtype=torch.float32):
    torch.manual_seed(seed)
    network = AutoModelForCausalLM.from_config(config).to(dtype).eval().requires_grad_(False)
    words = {f"w{number}": number for number in range(VOCABULARY)}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(WordLevel(words, unk_token="w0")), unk_token="w0")
    return LanguageModel(network, tokenizer, Checkpoint("small", "memory", "main", 0), DIGEST)


def small_llama(seed=0):
    return small_model(LlamaConfig(**SMALL), seed)


def served_vector(
    dimension="toxicity",
    layer=1,
    version="1",
    model="small",
    seed=0,
    d_model=32,
    scale=3.0,
    mean=0.0,
    probe=None,
    window=1,
    quality=None,
    template="",
):
    """``layer`` may be several. ``probe`` is the layer that a random probe beside it reads, about as often above as
    below its threshold; with a ``quality`` it is one of answers."""
    rng, layers = np.random.default_rng(seed), (layer,) if isinstance(layer, int) else layer
    drawn = [rng.standard_normal(d_model) for _ in layers]
    units = [(direction / np.linalg.norm(direction)).astype(np.float32) for direction in drawn]
    directions = (Direction(place, unit, scale, 1.0, mean) for place, unit in zip(layers, units, strict=True))
    lineage = Lineage(model, f"models:/ckpt.{model}/1", 0, "main", DIGEST, "cd", "packaged", "mass-mean", "r1", "c", 80)
    lineage = replace(lineage, template=template)
    vector = SteeringVector(dimension, tuple(directions), lineage)
    registered = RegisteredVector(f"steer.{model}.{dimension}", version, "r1", "m1", vector_tags(vector, "unit"))
    if probe is None:
        return ServedVector(registered, vector)
    weights = np.random.default_rng(seed + 100).standard_normal(d_model).astype(np.float32) / 4
    return ServedVector(registered, vector, LinearProbe(dimension, probe, weights, 0.1, lineage, window, quality))


def small_bank(versions="1"):
    """Three vectors at two layers."""
    rows = enumerate((("toxicity", 0), ("privacy", 1), ("fairness", 1)))
    vectors = tuple(
        served_vector(dimension, layer, versions, seed=10 * int(versions) + seed) for seed, (dimension, layer) in rows
    )
    return SteeringBank(facts(), vectors, {vector.dimension: vector.reference for vector in vectors})


def add(bank, row, strength, prompt="last", generation="all", below=None):
    condition = None if below is None else ProbeCondition(below)
    return Add(bank.vectors[row], strength, TokenScope(prompt, generation), condition)


def project(bank, row, target, low, high, bound="exactly", prompt="last", generation="all", below=None):
    condition = None if below is None else ProbeCondition(below)
    return Project(bank.vectors[row], target, bound, low, high, TokenScope(prompt, generation), condition)


def plan(bank, interventions=()):
    """Of interventions, or of strengths by row of the bank."""
    return SteeringPlan(
        bank,
        tuple(
            Add(bank.vectors[row], given) if isinstance(given, float | int) else given
            for row, given in enumerate(interventions)
        ),
    )


def request(prompt, strengths=(), bank=None, **sampling):
    """Greedy, twelve tokens, unless said otherwise; ``strengths`` as ``plan`` takes them."""
    settings = {"max_tokens": 12, "temperature": 0.0, **sampling}
    return GenerationRequest(tuple(prompt), Sampling(**settings), plan(bank or small_bank(), strengths))


def naive_tokens(model, asked, answer=()):
    """Greedy tokens by the whole sequence through the plain model for every token: no cache, no batch, no slots.

    Of an ``answer`` one pass tells how many tokens are those; the loop makes what follows.
    """
    length, most = len(asked.prompt_tokens), asked.sampling.max_tokens
    likeliest = plain_argmax(model, [*asked.prompt_tokens, *answer], asked)[length - 1 :]
    right = next(
        (n for n, (token, true) in enumerate(zip(answer, likeliest, strict=False)) if token != true), len(answer)
    )
    tokens = [*asked.prompt_tokens, *likeliest[: min(right + 1, most)]]
    while len(tokens) < length + most:
        tokens.append(plain_argmax(model, tokens, asked)[-1])
    return tuple(tokens[length:])


def naive_answers(model, asked, answers):
    """``naive_tokens`` of each request, told its answer."""
    return [naive_tokens(model, wanted, answer) for wanted, answer in zip(asked, answers, strict=True)]


def plain_argmax(model, tokens, asked):
    """The likeliest token after each of ``tokens``, which begin with the prompt of ``asked``, under its steering."""
    length = len(asked.prompt_tokens)
    phases = np.repeat(np.arange(3), [length - 1, 1, len(tokens) - length])
    offsets = {
        layer: torch.from_numpy(
            np.stack([asked.plan.offset(layer, phase) for phase in ("prompt", "last_prompt", "generation")])[phases]
        )
        for layer in asked.plan.bank.layers
    }
    with torch.inference_mode(), steering(model.network, offsets):
        return model.network(torch.tensor([tokens]), use_cache=False).logits[0].argmax(-1).tolist()


async def read_events(generation):
    """All events of a generation, as a reader on an event loop takes them."""
    events, outcome, changed = [], None, asyncio.Event()
    while outcome is None:
        changed.clear()
        taken, outcome = generation.take(changed)
        events += taken
        if outcome is None and not taken:
            await changed.wait()
    return events


def prompts(count, seed=0, longest=40):
    generator = np.random.default_rng(seed)
    return [generator.integers(0, VOCABULARY, generator.integers(1, longest)).tolist() for _ in range(count)]
