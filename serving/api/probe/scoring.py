"""Texts scored by the registered probes, read by the model that is served, between two steps of what it generates."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float32

from serving.api.errors import ApiError, DeadlineExceeded, require_model
from serving.api.openai.prompts import Tokens, chat_tokens, text_tokens
from serving.api.probe.requests import ProbeRequest
from serving.api.steering.responses import vector_info
from serving.engine.detokenizer import IncrementalDetokenizer
from serving.model.language_model import LanguageModel
from serving.served_model import LoadedModel
from serving.steering.bank import ServedVector
from serving.steering.catalog import ServedVectors
from serving.steering.resolver import unknown_dimension

MOST_TEXTS = 64

HiddenStates = Mapping[int, Float32[np.ndarray, "tokens d_model"]]


def probes_asked(live: ServedVectors, dimensions: Sequence[str] | None) -> dict[str, ServedVector]:
    """The champions whose probes are asked: all that have one, or those named. Raises ``ApiError``."""
    champions = {name: live.bank.champion(name) for name in dimensions or live.bank.champions}
    for name, one in champions.items():
        if one is None:
            raise ApiError(str(unknown_dimension(name, live)), param="dimensions", code="invalid_request")
        if one.probe is None and dimensions:
            raise ApiError(
                f"{one.reference} has no probe beside it; probe the model again to register one",
                param="dimensions",
                code="invalid_request",
            )
    found = {name: one for name, one in champions.items() if one is not None and one.probe is not None}
    if not found:
        raise ApiError(
            f"no probes of {live.bank.model.name} are registered; make some with mlflow run . -e calibrate -P "
            f"model={live.bank.model.name}",
            code="invalid_request",
        )
    return found


def tokens_asked(model: LanguageModel, body: ProbeRequest) -> list[Tokens]:
    """Each text's tokens, as it would be read on its own."""
    if body.messages:
        return [chat_tokens(model, body.messages)]
    if not 0 < len(body.texts) <= MOST_TEXTS:
        raise ApiError(f"input holds {len(body.texts)} texts and may hold 1 to {MOST_TEXTS}", param="input")
    single = isinstance(body.input, str)
    return [text_tokens(model, text, "input" if single else f"input.{place}") for place, text in enumerate(body.texts)]


async def score(running: LoadedModel, body: ProbeRequest, seconds: float) -> dict[str, Any]:
    """The reply of ``POST /v1/probe``."""
    require_model(body.model, running.name)
    live = running.catalog.served
    probes = probes_asked(live, body.dimensions)
    sequences = await asyncio.to_thread(tokens_asked, running.model, body)
    layers = sorted({one.layer for one in probes.values()})
    reading = running.engine.hidden_states(sequences, layers)
    try:
        states = await asyncio.wait_for(asyncio.wrap_future(reading), seconds)
    except TimeoutError as error:
        raise DeadlineExceeded(
            f"the texts were not read within {seconds:g} s (TRUSTTRACE_TIMEOUT); send fewer"
        ) from error
    data = [
        _text_score(running.model, index, tokens, found, probes, body.per_token)
        for index, (tokens, found) in enumerate(zip(sequences, states, strict=True))
    ]
    told = {name: vector_info(one.registered, live) for name, one in probes.items()}
    return {"object": "list", "model": running.name, "data": data, "probes": told}


def _text_score(
    model: LanguageModel,
    index: int,
    tokens: Tokens,
    states: HiddenStates,
    probes: Mapping[str, ServedVector],
    per_token: bool,
) -> dict[str, Any]:
    every = {name: _probabilities(one, states, per_token) for name, one in probes.items()}
    found: dict[str, Any] = {
        "index": index,
        "scores": {name: round(float(scores[-1]), 6) for name, scores in every.items()},
        "n_tokens": len(tokens),
    }
    if per_token:
        special = set(model.tokenizer.all_special_ids)
        found["tokens"] = [
            {"text": text, "scores": {name: round(float(scores[place]), 6) for name, scores in every.items()}}
            for place, text in enumerate(pieces(model, tokens))
            if tokens[place] not in special
        ]
    return found


def _probabilities(one: ServedVector, states: HiddenStates, per_token: bool) -> Float32[np.ndarray, " tokens"]:
    assert one.probe is not None
    rows = states[one.layer] if per_token else states[one.layer][-1:]
    return one.probe.probability(rows)


def pieces(model: LanguageModel, tokens: Tokens) -> list[str]:
    """What each token adds to the text. A character of several tokens comes with the last of them."""
    stream = IncrementalDetokenizer(model.tokenizer, (), ())
    found = [stream.add(token) for token in tokens]
    if found:
        found[-1] += stream.flush()
    return found
