"""OpenAI's routes, with ``steering`` in the request and in the answer."""

from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response, StreamingResponse

from serving.api.dependencies import Loaded, RequestContext, Served, SteeredContext
from serving.api.error_documents import documented
from serving.api.errors import require_model
from serving.api.openai.chunks import streamed
from serving.api.openai.completions import begin, whole
from serving.api.openai.prompts import has_chat
from serving.api.openai.requests import ChatRequest, CompletionRequest, OpenAIRequest
from serving.api.openai.responses import CompletionResponse, ModelInfo, ModelList
from serving.api.steering.block import steering_request
from serving.api.steering.resolution import resolve_steering
from serving.api.steering.responses import dimension_info
from serving.api.steering.shorthand import format_strengths, parse_strengths, split_alias
from serving.served_model import LoadedModel, ServedModel

router = APIRouter(tags=["OpenAI"])

GENERATES = documented(404, 409, 422, 429, 503, 504)
STREAMS: dict[int | str, dict[str, Any]] = {
    200: {"model": CompletionResponse, "content": {"text/event-stream": {"schema": {"type": "string"}}}}
}
STREAM_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


@router.post("/v1/chat/completions", responses={**STREAMS, **GENERATES}, summary="Answer a conversation")
async def chat_completions(body: ChatRequest, context: SteeredContext) -> Response:
    return await _answer(body, context)


@router.post("/v1/completions", responses={**STREAMS, **GENERATES}, summary="Continue a text")
async def text_completions(body: CompletionRequest, context: SteeredContext) -> Response:
    return await _answer(body, context)


async def _answer(body: OpenAIRequest, context: RequestContext) -> Response:
    answer = await context.run(begin, context, body)
    headers = {"x-steering-fingerprint": answer.steering.plan.fingerprint}
    if body.stream:
        stream = streamed(context.served.settings, answer, body)
        return StreamingResponse(stream, media_type="text/event-stream", headers={**headers, **STREAM_HEADERS})
    return JSONResponse(await whole(context, answer), headers=headers)


@router.get("/v1/models", responses={200: {"model": ModelList}, **documented(503)}, summary="List the served model")
def models(served: Served, loaded: Loaded) -> JSONResponse:
    """The served model, and an alias per dimension that steers it at the recommended strength."""
    names = [loaded.name, *(f"{loaded.name}@{alias}" for alias in _aliases(served, loaded))]
    return JSONResponse({"object": "list", "data": [_model_info(name, served, loaded) for name in names]})


@router.get(
    "/v1/models/{model_id:path}",
    responses={200: {"model": ModelInfo}, **documented(404, 409, 422, 503)},
    summary="Describe the served model, or an alias of it",
)
def model(model_id: str, served: Served, loaded: Loaded) -> JSONResponse:
    name, alias = split_alias(model_id)
    require_model(name, loaded.name)
    if alias is not None:
        resolve_steering(served, loaded, steering_request(parse_strengths(alias, "model")), "model")
    return JSONResponse(_model_info(model_id, served, loaded))


def _aliases(served: ServedModel, loaded: LoadedModel) -> list[str]:
    resolver = served.steering_resolver(loaded)
    champions = {name: resolver.served.bank.champion(name) for name in resolver.served.bank.champions}
    ranges = {name: resolver.limits.range_of(vector) for name, vector in champions.items() if vector is not None}
    return [
        format_strengths({name: strength})
        for name, allowed in sorted(ranges.items())
        if (strength := float(f"{allowed.recommended[1]:.2g}")) and strength in allowed
    ]


def _model_info(name: str, served: ServedModel, loaded: LoadedModel) -> dict[str, Any]:
    language_model, vectors = loaded.model, loaded.catalog.served
    checkpoint = language_model.checkpoint
    resolver = served.steering_resolver(loaded)
    return {
        "id": name,
        "object": "model",
        "created": loaded.since,
        "owned_by": "trusttrace",
        "chat": has_chat(language_model),
        "context_window": loaded.engine.window,
        "max_model_len": loaded.engine.window,
        "checkpoint": {
            "revision": checkpoint.revision,
            "step": checkpoint.step,
            "weights_digest": language_model.weights_digest,
        },
        "steering": {
            "dimensions": [
                dimension_info(dimension, resolver) for dimension in sorted({*vectors.bank.champions, *vectors.refused})
            ],
            "layers": list(vectors.bank.layers),
            "n_layers": language_model.n_layers,
            "d_model": language_model.d_model,
            "operations": sorted(loaded.engine.operations),
            "default": served.defaults.to_dict(),
        },
    }
