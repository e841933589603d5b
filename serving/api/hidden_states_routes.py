"""Hidden states: what one layer holds for the tokens of prompts; bounded, and for administrators alone."""

import asyncio
import base64
from concurrent.futures import Future
from typing import Annotated, Any, Literal, Self

import numpy as np
from fastapi import APIRouter
from fastapi.responses import JSONResponse
from jaxtyping import Float32
from pydantic import BaseModel, Field, model_validator

from registry.errors import Mismatch
from serving.api.dependencies import Loaded, RequestContext, SteeredContext
from serving.api.error_documents import documented
from serving.api.errors import ApiError, require_model
from serving.api.openai.prompts import (
    Tokens,
    chat_tokens,
    n_prompts,
    prompt_names,
    prompt_tokens,
    require_fitting,
)
from serving.api.openai.requests import MOST_MESSAGES, Message, Prompt
from serving.api.openai.streaming import result_for
from serving.api.request_body import Listed, RequestBody, field_error
from serving.engine.base import HiddenStates
from serving.served_model import LoadedModel

router = APIRouter(tags=["probes"])

MOST_PROMPTS = 64
MOST_VALUES = 2**22
"""Numbers in one answer, tokens times width: 16 MiB as float32."""


class HiddenStatesRequest(RequestBody):
    """POST /v1/hidden_states: texts, tokens, or one conversation, read without generating anything."""

    model: str | None = Field(None, max_length=300)
    input: Prompt | None = Field(None, examples=["Bats are blind."])
    messages: Listed[Message] | None = Field(None, min_length=1, max_length=MOST_MESSAGES)
    layer: int = Field(ge=0, examples=[2])
    """Counted from 0: the output of decoder block ``layer``, before any final norm."""
    tokens: Literal["all", "last"] = "all"
    """Whether every token's state is answered, or each prompt's last."""
    encoding_format: Literal["base64", "float"] = "base64"
    """Little-endian float32, row by row, in base64; or lists of numbers."""

    @model_validator(mode="after")
    def _require_text(self) -> Self:
        if (self.input is None) == (self.messages is None):
            raise field_error("input", "give either `input` or `messages`, and not both")
        return self


class PromptHiddenStates(BaseModel):
    index: int
    tokens: list[int]
    """The prompt's tokens, all of them."""
    shape: Annotated[list[int], Field(min_length=2, max_length=2)]
    """Tokens answered, and the model's width."""
    hidden_states: str | list[list[float]]


class HiddenStatesResponse(BaseModel):
    object: Literal["list"]
    model: str
    layer: int
    weights_digest: str
    """SHA-256 of the weights that the states were computed with."""
    encoding_format: Literal["base64", "float"]
    data: list[PromptHiddenStates]


@router.post(
    "/v1/hidden_states",
    responses={200: {"model": HiddenStatesResponse}, **documented(404, 429, 503, 504)},
    summary="Read prompts' hidden states at one layer",
)
async def hidden_states(body: HiddenStatesRequest, context: SteeredContext, loaded: Loaded) -> JSONResponse:
    """The unsteered residual stream after one decoder block (admin key). At most 64 prompts and 4,194,304 numbers."""
    context.require_no_header("steers no hidden states, which are read unsteered: leave it out")
    require_model(body.model, loaded.name)
    _require_layer(loaded, body.layer)
    sequences, reading = await context.run(_begin, context, loaded, body)
    states = await result_for(asyncio.wrap_future(reading), context.request, context.served.settings.timeout)
    content = await context.run(_content, loaded, body, sequences, [of_prompt[body.layer] for of_prompt in states])
    return JSONResponse(content)


def _begin(
    context: RequestContext, loaded: LoadedModel, body: HiddenStatesRequest
) -> tuple[list[Tokens], Future[HiddenStates]]:
    client = context.record.client
    sequences = _sequences(loaded, body, client)
    _require_bounded(sequences, body, loaded.model.d_model)
    if body.input is not None:
        require_fitting(sequences, loaded.engine.window, prompt_names(body.input, "input"), is_answered=False)
    read = loaded.engine.hidden_states
    (reading,) = context.shares.submit(client, loaded.engine, lambda: [read(sequences, [body.layer], client)])
    return sequences, reading


def _require_layer(loaded: LoadedModel, layer: int) -> None:
    try:
        loaded.model.facts.require_layer(layer)
    except Mismatch as error:
        raise ApiError(str(error), param="layer") from error


def _sequences(loaded: LoadedModel, body: HiddenStatesRequest, client: str) -> list[Tokens]:
    model, window = loaded.model, loaded.engine.window
    if body.messages:
        return [chat_tokens(model, body.messages, window, client=client, is_answered=False)]
    assert body.input is not None
    count = n_prompts(body.input)
    if not 0 < count <= MOST_PROMPTS:
        raise ApiError(f"`input` holds {count} prompts and may hold 1 to {MOST_PROMPTS}", param="input")
    return prompt_tokens(model, body.input, window, "input")


def _require_bounded(sequences: list[Tokens], body: HiddenStatesRequest, width: int) -> None:
    """Raise ``ApiError`` where the answer would be too large, before anything is read."""
    read = sum(map(len, sequences))
    if read * width > MOST_VALUES:
        raise ApiError(
            f"`input` has {read} tokens of {width} numbers each, and one request may read {MOST_VALUES // width} "
            "tokens; send fewer at once",
            param="messages" if body.messages else "input",
        )


def _content(
    loaded: LoadedModel,
    body: HiddenStatesRequest,
    sequences: list[Tokens],
    states: list[Float32[np.ndarray, "tokens d_model"]],
) -> dict[str, Any]:
    data = []
    for index, (tokens, of_prompt) in enumerate(zip(sequences, states, strict=True)):
        rows = np.ascontiguousarray(of_prompt if body.tokens == "all" else of_prompt[-1:], dtype="<f4")
        encoded = rows.tolist() if body.encoding_format == "float" else base64.b64encode(rows.tobytes()).decode()
        data.append({"index": index, "tokens": list(tokens), "shape": list(rows.shape), "hidden_states": encoded})
    return {
        "object": "list",
        "model": loaded.name,
        "layer": body.layer,
        "weights_digest": loaded.model.weights_digest,
        "encoding_format": body.encoding_format,
        "data": data,
    }
