"""Continuations of prompts under a model, plain or steered, written by the engine that serves."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from pipelines.model_io.answer_engines import engines_for
from pipelines.model_io.batches import tokenise
from registry.errors import Mismatch
from registry.records import RegisteredVector, checkpoint_name, lineage_tags, vector_name
from registry.vectors import Lineage, SteeringVector
from serving.engine.base import GenerationRequest, Sampling
from serving.engine.slots.model_runner import require_runnable
from serving.model.language_model import LanguageModel
from serving.steering.bank import ServedVector, SteeringBank
from serving.steering.plan import Add, SteeringPlan, TokenScope

ANSWER_SECONDS = 600.0

Offsets = Mapping[int, Tensor]
"""What is added to the hidden states of every token, by layer."""


@dataclass(frozen=True)
class Answers:
    """What was written after some prompts."""

    texts: tuple[str, ...] = ()
    tokens: tuple[tuple[int, ...], ...] = ()
    """Of each text, as the model wrote it."""


def require_writing(model: LanguageModel) -> None:
    """Raise ``Mismatch`` where the engine cannot run ``model``, with what can be done with it nevertheless."""
    try:
        require_runnable(model)
    except Mismatch as error:
        name = model.checkpoint.model
        raise Mismatch(
            f"{error}, so {name} can be probed and calibrated by its statements, and neither evaluated nor calibrated "
            "by text; serve it with TRUSTTRACE_ENGINE=vllm, where vLLM runs such models, or load its vectors elsewhere "
            "(registry/README.md)"
        ) from error


def continuations(
    model: LanguageModel, prompts: Sequence[str], sampling: Sampling, offsets: Offsets | None = None
) -> tuple[str, ...]:
    """The text that ``model`` writes after each prompt, with ``offsets[layer]`` added at every token.

    Each text is drawn by a seed of its own, made of the seed of ``sampling``, the prompt's tokens and how often the
    prompt came before: it does not depend on the other prompts.
    """
    (answers,) = continuations_of_settings(model, prompts, sampling, [offsets or {}])
    return answers.texts


def continuations_of_settings(
    model: LanguageModel,
    prompts: Sequence[str],
    sampling: Sampling,
    settings: Sequence[Offsets],
    on_setting: Callable[[], object] = lambda: None,
) -> list[Answers]:
    """The continuations under each of ``settings``; answers of all of them share the steps of one engine."""
    sequences, samplings = list(map(tuple, tokenise(model, prompts))), []
    copies = Counter[tuple[int, ...]]()
    for tokens in sequences:
        seeds = np.random.SeedSequence((sampling.seed or 0, copies[tokens], *tokens))
        samplings.append(replace(sampling, seed=int(seeds.generate_state(1, np.uint64)[0])))
        copies[tokens] += 1
    plans = [constant_plan(model, offsets) for offsets in settings]
    requests = [[GenerationRequest(*given, plan) for given in zip(sequences, samplings, strict=True)] for plan in plans]
    return written_answers(model, requests, on_setting)


def written_answers(
    model: LanguageModel,
    groups: Sequence[Sequence[GenerationRequest]],
    on_group: Callable[[], object] = lambda: None,
) -> list[Answers]:
    """The answers to each group of requests, by continuous batching over all groups; engines share each of them."""
    count = sum(map(len, groups))
    if not count:
        return [Answers() for _ in groups]
    answers = []
    with engines_for(model, count) as engines:
        generations = [
            [engines[place * len(engines) // len(group)].submit(request) for place, request in enumerate(group)]
            for group in groups
        ]
        for group in generations:
            completions = [generation.result(ANSWER_SECONDS) for generation in group]
            texts = tuple(completion.text for completion in completions)
            answers.append(Answers(texts, tuple(tuple(completion.tokens) for completion in completions)))
            on_group()
    return answers


def constant_plan(model: LanguageModel, offsets: Offsets) -> SteeringPlan:
    """The plan that adds ``offsets[layer]`` at every token of prompt and answer, by vectors that are in no registry."""
    vectors = tuple(_unregistered(model, offsets))
    return SteeringPlan(
        SteeringBank(model.facts, vectors), tuple(Add(vector, 1.0, TokenScope(prompt="all")) for vector in vectors)
    )


def _unregistered(model: LanguageModel, offsets: Offsets) -> Iterator[ServedVector]:
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
            vector = SteeringVector.at_layer(dimension, unit, length, layer, lineage, length, 0.0)
            tags = lineage_tags(dimension, vector.layers, lineage)
            registered = RegisteredVector(vector_name(checkpoint.model, dimension), str(layer), "", "", tags)
            yield ServedVector(registered, vector)
