"""Scoring: texts scored by the registered probes, read by the served model between two steps of its generations."""

import asyncio
import shlex
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Any

import numpy as np
from jaxtyping import Float32

from registry.counts import counted
from registry.embedded import model_argument
from registry.errors import InvalidInput
from registry.vectors import LinearProbe
from serving.api.dependencies import RequestContext
from serving.api.errors import ApiError, require_model
from serving.api.openai.prompts import Tokens, answer_tokens, chat_tokens, require_fitting, tokens_of
from serving.api.openai.streaming import result_for
from serving.api.probe.requests import ProbeRequest
from serving.api.steering.responses import vector_info
from serving.model.language_model import LanguageModel
from serving.served_model import LoadedModel
from serving.steering.bank import ServedVector
from serving.steering.catalog import ServedVectors
from serving.steering.resolver import unknown_dimension

MOST_TEXTS = 64
MOST_TOKENS = 16_384
"""Of one request that asks for the scores of every token: each is an object of the answer."""

States = Float32[np.ndarray, "tokens d_model"]
Logits = Float32[np.ndarray, " tokens"]
Probabilities = Float32[np.ndarray, " tokens"]
"""P(trustworthy) at each token, by one probe."""


def require_probes(served: ServedVectors, dimensions: Sequence[str] | None) -> dict[str, ServedVector]:
    """The champions to score by: all that have a probe, or those named. Raises ``ApiError``."""
    champions = {name: served.bank.champion(name) for name in dimensions or served.bank.champions}
    for name, vector in champions.items():
        if vector is None:
            raise ApiError(str(unknown_dimension(name, served)), param="dimensions")
        if dimensions:
            try:
                vector.require_reader()
            except InvalidInput as error:
                raise ApiError(f"{error}; leave {name} out", param="dimensions") from error
    probed = {name: vector for name, vector in champions.items() if vector is not None and vector.reader is not None}
    if not probed:
        model = served.bank.model.name
        raise ApiError(
            f"no probes of {model} are registered; make some with mlflow run . --env-manager local -e calibrate "
            f"-P {shlex.quote(f'model={model_argument(model)}')}"
        )
    return probed


def prompt_of(model: LanguageModel, body: ProbeRequest, window: int, client: str) -> Tokens:
    """The tokens before each of the texts; none where they answer nothing."""
    if body.prompt is not None:
        prompt = tokens_of(model, body.prompt, window)
        require_fitting([prompt], window, ["prompt"], is_answered=False)
        return prompt
    if body.messages and body.input is not None:
        return chat_tokens(model, body.messages, window, client=client, is_answered=False)
    return ()


def input_tokens(model: LanguageModel, body: ProbeRequest, prompt: Tokens, window: int, client: str) -> list[Tokens]:
    """Each text's tokens, as it would be read on its own or after ``prompt``, with those of the prompt."""
    if body.input is None:
        return [chat_tokens(model, body.messages or (), window, client=client, is_answered=False)]
    if not 0 < len(body.texts) <= MOST_TEXTS:
        raise ApiError(
            f"`input` holds {counted(len(body.texts), 'text')} and may hold 1 to {MOST_TEXTS}", param="input"
        )
    single = isinstance(body.input, str)
    names = ["input" if single else f"input.{index}" for index in range(len(body.texts))]
    read = answer_tokens if prompt else tokens_of
    texts = [prompt + read(model, text, window, name) for text, name in zip(body.texts, names, strict=True)]
    require_fitting(texts, window, names, is_answered=False)
    return texts


async def score(context: RequestContext, loaded: LoadedModel, body: ProbeRequest) -> dict[str, Any]:
    """The response of ``POST /v1/probe``."""
    require_model(body.model, loaded.name)
    served = loaded.catalog.served
    probes = require_probes(served, body.dimensions)
    sequences, begin, reading = await context.run(_begin, context, loaded, body, list(probes.values()))
    read = await result_for(asyncio.wrap_future(reading), context.request, context.served.settings.timeout)
    readers = {name: vector.require_reader() for name, vector in probes.items()}
    data = await context.run(_text_scores, loaded.model, sequences, begin, read, readers, body.per_token)
    lineage = {name: vector_info(vector.registered, served) for name, vector in probes.items()}
    return {"object": "list", "model": loaded.name, "data": data, "probes": lineage}


def _begin(
    context: RequestContext, loaded: LoadedModel, body: ProbeRequest, vectors: Sequence[ServedVector]
) -> tuple[list[Tokens], int, Future[Any]]:
    """Tokenise and submit: the sequences, where their texts begin, and what reads them.

    The probes read each piece as it comes, so that no hidden states are kept.
    """
    window, client = loaded.engine.window, context.record.client
    prompt = prompt_of(loaded.model, body, window, client)
    sequences = input_tokens(loaded.model, body, prompt, window, client)
    _require_bounded(sequences, body)
    probes = [vector.require_reader() for vector in vectors]

    def logits(states: dict[int, States]) -> dict[int, Logits]:
        return {number: probe.logits(states[probe.layer]) for number, probe in enumerate(probes)}

    layers = sorted({probe.layer for probe in probes})
    (reading,) = context.shares.submit(
        context.record.client,
        loaded.engine,
        lambda: [loaded.engine.hidden_states(sequences, layers, context.record.client, logits)],
    )
    return sequences, len(prompt), reading


def _require_bounded(sequences: Sequence[Tokens], body: ProbeRequest) -> None:
    tokens = sum(map(len, sequences))
    if body.per_token and tokens > MOST_TOKENS:
        raise ApiError(
            f"the texts have {tokens} tokens, and `per_token` scores at most {MOST_TOKENS} in one request; send fewer "
            "texts at once, or leave `per_token` out",
            param="per_token",
        )


def _text_scores(
    model: LanguageModel,
    sequences: Sequence[Tokens],
    begin: int,
    read: Sequence[Mapping[int, Logits]],
    probes: Mapping[str, LinearProbe],
    per_token: bool,
) -> list[dict[str, Any]]:
    texts = []
    for index, (tokens, of_text) in enumerate(zip(sequences, read, strict=True)):
        by_probe = zip(probes.items(), of_text.values(), strict=True)
        scores = {name: readings_of(probe, logits, begin) for (name, probe), logits in by_probe}
        texts.append({"index": index, **_text_score(model, tokens, begin, scores, per_token)})
    return texts


def readings_of(probe: LinearProbe, logits: Logits, begin: int = 0) -> Probabilities:
    """A text's readings, from its token ``begin`` on, as a monitor reads an answer that begins there.

    Where nothing comes before a text, no window but its own holds its first token, which models attend to whatever it
    is: its state says nothing of the text, and in an answer it has no part.
    """
    if begin or probe.window == 1:
        return probe.readings(logits[begin:])
    return np.concatenate([probe.readings(logits[:1]), probe.readings(logits[1:])])


def _text_score(
    model: LanguageModel, tokens: Tokens, begin: int, scores: Mapping[str, Probabilities], per_token: bool
) -> dict[str, Any]:
    """Of the tokens from ``begin`` on, of which the scores are."""
    score: dict[str, Any] = {"scores": _rounded(scores, -1), "n_tokens": len(tokens) - begin}
    if per_token:
        special = set(model.tokenizer.all_special_ids)
        score["tokens"] = [
            {"text": text, "scores": _rounded(scores, position)}
            for position, (token, text) in enumerate(zip(tokens[begin:], pieces(model, tokens)[begin:], strict=True))
            if token not in special
        ]
    return score


def _rounded(scores: Mapping[str, Probabilities], position: int) -> dict[str, float]:
    return {name: round(float(of_tokens[position]), 6) for name, of_tokens in scores.items()}


def pieces(model: LanguageModel, tokens: Tokens) -> list[str]:
    """The text that each token adds. A character of several tokens comes with the last of them."""
    return model.token_bytes.pieces(tokens)
