"""OpenAI's routes, with ``steering`` in the request and in the answer."""

from typing import Any

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, Response, StreamingResponse

from serving.api.dependencies import Loaded, Record, Served
from serving.api.errors import documented, require_model
from serving.api.openai.completions import begin, resolver, streamed, whole
from serving.api.openai.prompts import has_chat
from serving.api.openai.requests import ChatRequest, CompletionRequest, OpenAIRequest
from serving.api.openai.responses import CompletionResponse, ModelInfo, ModelList
from serving.api.request_record import RequestRecord
from serving.api.steering.responses import default_told, dimension_info
from serving.served_model import LoadedModel, ServedModel

router = APIRouter(tags=["OpenAI"])

GENERATES = documented(404, 409, 413, 422, 429, 503, 504)
STREAMS: dict[int | str, dict[str, Any]] = {
    200: {"model": CompletionResponse, "content": {"text/event-stream": {"schema": {"type": "string"}}}}
}


@router.post("/v1/chat/completions", responses={**STREAMS, **GENERATES}, summary="CompletionResponse a conversation")
async def chat_completions(body: ChatRequest, request: Request, served: Served, record: Record) -> Response:
    return await _answer(body, request, served, record)


@router.post("/v1/completions", responses={**STREAMS, **GENERATES}, summary="Go on with a text")
async def text_completions(body: CompletionRequest, request: Request, served: Served, record: Record) -> Response:
    return await _answer(body, request, served, record)


async def _answer(body: OpenAIRequest, request: Request, served: ServedModel, record: RequestRecord) -> Response:
    answer = await run_in_threadpool(begin, served, body, record)
    headers = {"x-steering-fingerprint": answer.steering.plan.fingerprint}
    if body.stream:
        headers |= {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        return StreamingResponse(streamed(served, answer, body), media_type="text/event-stream", headers=headers)
    return JSONResponse(await whole(served, answer, request), headers=headers)


@router.get("/v1/models", responses={200: {"model": ModelList}, **documented(503)}, summary="What is served")
def models(served: Served, running: Loaded) -> JSONResponse:
    return JSONResponse({"object": "list", "data": [_model_info(served, running)]})


@router.get(
    "/v1/models/{model_id:path}", responses={200: {"model": ModelInfo}, **documented(404, 503)}, summary="One model"
)
def model(model_id: str, served: Served, running: Loaded) -> JSONResponse:
    require_model(model_id, running.name)
    return JSONResponse(_model_info(served, running))


def _model_info(served: ServedModel, running: LoadedModel) -> dict[str, Any]:
    language_model, live = running.model, running.catalog.served
    checkpoint = language_model.checkpoint
    resolve = resolver(served, running)
    return {
        "id": running.name,
        "object": "model",
        "created": running.since,
        "owned_by": "trusttrace",
        "chat": has_chat(language_model),
        "context_window": running.engine.window,
        "checkpoint": {
            "revision": checkpoint.revision,
            "step": checkpoint.step,
            "weights_digest": language_model.weights_digest,
        },
        "steering": {
            "dimensions": [dimension_info(name, resolve) for name in sorted({*live.bank.champions, *live.refused})],
            "layers": list(live.bank.layers),
            "n_layers": language_model.n_layers,
            "d_model": language_model.d_model,
            "operations": sorted(running.engine.operations),
            "default": default_told(served),
        },
    }
