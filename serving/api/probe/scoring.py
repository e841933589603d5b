"""Scoring: texts scored by the registered probes, read by the served model between two steps of its generations."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float32

from registry.embedded import model_argument
from serving.api.dependencies import RequestContext
from serving.api.errors import ApiError, require_model
from serving.api.openai.prompts import Tokens, chat_tokens, text_tokens
from serving.api.openai.streaming import result_for
from serving.api.probe.requests import ProbeRequest
from serving.api.steering.responses import vector_info
from serving.model.language_model import LanguageModel
from serving.served_model import LoadedModel
from serving.steering.bank import ServedVector
from serving.steering.catalog import ServedVectors
from serving.steering.resolver import unknown_dimension

MOST_TEXTS = 64

HiddenStates = Mapping[int, Float32[np.ndarray, "tokens d_model"]]


def require_probes(served: ServedVectors, dimensions: Sequence[str] | None) -> dict[str, ServedVector]:
    """The champions to score by: all that have a probe, or those named. Raises ``ApiError``."""
    champions = {name: served.bank.champion(name) for name in dimensions or served.bank.champions}
    for name, vector in champions.items():
        if vector is None:
            raise ApiError(str(unknown_dimension(name, served)), param="dimensions")
        if vector.probe is None and dimensions:
            raise ApiError(
                f"{vector.reference} has no probe beside it; calibrate the model again to register one",
                param="dimensions",
            )
    probed = {name: vector for name, vector in champions.items() if vector is not None and vector.probe is not None}
    if not probed:
        model = served.bank.model.name
        raise ApiError(
            f"no probes of {model} are registered; make some with mlflow run . --env-manager local -e calibrate "
            f"-P model={model_argument(model)}"
        )
    return probed


def input_tokens(model: LanguageModel, body: ProbeRequest, client: str) -> list[Tokens]:
    """Each text's tokens, as it would be read on its own."""
    if body.messages:
        return [chat_tokens(model, body.messages, client=client)]
    if not 0 < len(body.texts) <= MOST_TEXTS:
        raise ApiError(f"`input` holds {len(body.texts)} texts and may hold 1 to {MOST_TEXTS}", param="input")
    single = isinstance(body.input, str)
    return [text_tokens(model, text, "input" if single else f"input.{index}") for index, text in enumerate(body.texts)]


async def score(context: RequestContext, loaded: LoadedModel, body: ProbeRequest) -> dict[str, Any]:
    """The response of ``POST /v1/probe``."""
    require_model(body.model, loaded.name)
    served = loaded.catalog.served
    probes = require_probes(served, body.dimensions)
    sequences = await context.run(input_tokens, loaded.model, body, context.record.client)
    layers = sorted({vector.probe.layer for vector in probes.values() if vector.probe is not None})
    reading = loaded.engine.hidden_states(sequences, layers)
    states = await result_for(asyncio.wrap_future(reading), context.request, context.served.settings.timeout)
    data = await context.run(_text_scores, loaded.model, sequences, states, probes, body.per_token)
    lineage = {name: vector_info(vector.registered, served) for name, vector in probes.items()}
    return {"object": "list", "model": loaded.name, "data": data, "probes": lineage}


def _text_scores(
    model: LanguageModel,
    sequences: Sequence[Tokens],
    states: Sequence[HiddenStates],
    probes: Mapping[str, ServedVector],
    per_token: bool,
) -> list[dict[str, Any]]:
    return [
        {"index": index, **_text_score(model, tokens, of_text, probes, per_token)}
        for index, (tokens, of_text) in enumerate(zip(sequences, states, strict=True))
    ]


def _text_score(
    model: LanguageModel,
    tokens: Tokens,
    states: HiddenStates,
    probes: Mapping[str, ServedVector],
    per_token: bool,
) -> dict[str, Any]:
    scores = {name: _probabilities(vector, states, per_token) for name, vector in probes.items()}
    score: dict[str, Any] = {"scores": _rounded(scores, -1), "n_tokens": len(tokens)}
    if per_token:
        special = set(model.tokenizer.all_special_ids)
        score["tokens"] = [
            {"text": text, "scores": _rounded(scores, position)}
            for position, text in enumerate(pieces(model, tokens))
            if tokens[position] not in special
        ]
    return score


def _rounded(scores: Mapping[str, Float32[np.ndarray, " tokens"]], position: int) -> dict[str, float]:
    return {name: round(float(of_tokens[position]), 6) for name, of_tokens in scores.items()}


def _probabilities(vector: ServedVector, states: HiddenStates, per_token: bool) -> Float32[np.ndarray, " tokens"]:
    assert vector.probe is not None
    of_layer = states[vector.probe.layer]
    rows = of_layer if per_token else of_layer[-1:]
    return vector.probe.probability(rows)


def pieces(model: LanguageModel, tokens: Tokens) -> list[str]:
    """The text that each token adds. A character of several tokens comes with the last of them."""
    return model.token_bytes.pieces(tokens)
