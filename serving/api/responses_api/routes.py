"""Responses route: OpenAI's Responses API for text, answered as a conversation is."""

from typing import Any

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, Response, StreamingResponse

from serving.api.dependencies import Record, Served, Shares
from serving.api.openai.completions import begin
from serving.api.openai.routes import GENERATES, STREAM_HEADERS, XSteering
from serving.api.openai.streaming import completions
from serving.api.responses_api.events import streamed_response
from serving.api.responses_api.objects import ResponseObject, ResponseWriter
from serving.api.responses_api.requests import ResponsesRequest

router = APIRouter(tags=["OpenAI"])

STREAMS: dict[int | str, dict[str, Any]] = {
    200: {"model": ResponseObject, "content": {"text/event-stream": {"schema": {"type": "string"}}}}
}


@router.post("/v1/responses", responses={**STREAMS, **GENERATES}, summary="Answer a conversation (Responses API)")
async def responses(
    body: ResponsesRequest,
    request: Request,
    served: Served,
    shares: Shares,
    record: Record,
    x_steering: XSteering = None,
) -> Response:
    """The text subset: nothing is stored, so every request carries its whole conversation."""
    answer = await run_in_threadpool(begin, served, body.as_chat(), record, shares, x_steering)
    writer, headers = ResponseWriter(answer, body), {"x-steering-fingerprint": answer.steering.plan.fingerprint}
    if body.stream:
        stream = streamed_response(writer, served.settings)
        return StreamingResponse(stream, media_type="text/event-stream", headers={**headers, **STREAM_HEADERS})
    (completion,) = await completions(answer.generations, request, served.settings.timeout)
    record.add_text(0, completion.text)
    item = writer.item(completion.text, writer.status(completion.outcome), completion.events)
    steering = answer.end([completion.outcome])
    return JSONResponse(writer.ended([item], completion.outcome, steering), headers=headers)
