"""Continuations of prompts under a model, plain or steered, written by the engine that serves."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from torch import Tensor

from pipelines.model_io.batches import tokenise
from registry.records import RegisteredVector, checkpoint_name, lineage_tags, vector_name
from registry.vectors import Lineage, SteeringVector
from serving.engine.base import GenerationRequest, Sampling
from serving.engine.slots.engine import SlotEngine
from serving.model.language_model import LanguageModel
from serving.steering.bank import ServedVector, SteeringBank
from serving.steering.plan import Add, SteeringPlan, TokenScope

SLOTS = 32
ANSWER_SECONDS = 600.0


def continuations(
    model: LanguageModel, prompts: Sequence[str], sampling: Sampling, offsets: Mapping[int, Tensor] | None = None
) -> tuple[str, ...]:
    """The text that ``model`` writes after each prompt, with ``offsets[layer]`` added at every token.

    Each text is drawn by a seed of its own, made of the seed of ``sampling``, the prompt's tokens and how often the
    prompt came before: it does not depend on the other prompts.
    """
    plan, copies, requests = constant_plan(model, offsets or {}), Counter[tuple[int, ...]](), []
    for tokens in map(tuple, tokenise(model, prompts)):
        seeds = np.random.SeedSequence((sampling.seed or 0, copies[tokens], *tokens))
        seed = int(seeds.generate_state(1, np.uint64)[0])
        requests.append(GenerationRequest(tokens, replace(sampling, seed=seed), plan))
        copies[tokens] += 1
    return answer_texts(model, requests)


def answer_texts(model: LanguageModel, requests: Sequence[GenerationRequest]) -> tuple[str, ...]:
    """The text of each answer, by continuous batching."""
    if not requests:
        return ()
    with SlotEngine(model, slots=min(SLOTS, len(requests)), queue_limit=len(requests)) as engine:
        generations = [engine.submit(request) for request in requests]
        return tuple(generation.result(ANSWER_SECONDS).text for generation in generations)


def constant_plan(model: LanguageModel, offsets: Mapping[int, Tensor]) -> SteeringPlan:
    """The plan that adds ``offsets[layer]`` at every token of prompt and answer, by vectors that are in no registry."""
    vectors = tuple(_unregistered(model, offsets))
    return SteeringPlan(
        SteeringBank(model.facts, vectors), tuple(Add(vector, 1.0, TokenScope(prompt="all")) for vector in vectors)
    )


def _unregistered(model: LanguageModel, offsets: Mapping[int, Tensor]) -> Iterator[ServedVector]:
    checkpoint, dimension = model.checkpoint, "unregistered"
    uri = f"models:/{checkpoint_name(checkpoint.model)}/0"
    lineage = Lineage(
        model=checkpoint.model,
        checkpoint_uri=uri,
        checkpoint_step=checkpoint.step,
        checkpoint_revision=checkpoint.revision,
        weights_digest=model.weights_digest,
        statements_digest="",
        statements_source="",
        method="offset",
        run_id="",
        code_commit="",
        n_train=0,
    )
    for layer, offset in offsets.items():
        length = float(offset.norm())
        if length:
            unit = (offset / length).float().cpu().numpy()
            vector = SteeringVector(dimension, unit, length, layer, lineage, length, 0.0)
            tags = lineage_tags(dimension, layer, lineage)
            registered = RegisteredVector(vector_name(checkpoint.model, dimension), str(layer), "", "", tags)
            yield ServedVector(registered, vector)
