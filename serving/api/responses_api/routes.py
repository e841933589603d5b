"""Responses route: OpenAI's Responses API for text, answered as a conversation is."""

from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response, StreamingResponse

from serving.api.dependencies import SteeredContext
from serving.api.openai.completions import begin, renamed
from serving.api.openai.routes import GENERATES, STREAM_HEADERS
from serving.api.openai.streaming import completions
from serving.api.responses_api.events import streamed_response
from serving.api.responses_api.objects import ResponseObject, ResponseWriter
from serving.api.responses_api.requests import ResponsesRequest

router = APIRouter(tags=["OpenAI"])

FIELDS = {"messages": "input", "response_format": "text.format"}
"""This route's fields, by those of the conversation that each request stands for."""
STREAMS: dict[int | str, dict[str, Any]] = {
    200: {"model": ResponseObject, "content": {"text/event-stream": {"schema": {"type": "string"}}}}
}


@router.post("/v1/responses", responses={**STREAMS, **GENERATES}, summary="Answer a conversation (Responses API)")
async def responses(body: ResponsesRequest, context: SteeredContext) -> Response:
    """The text subset: nothing is stored, so every request carries its whole conversation."""
    with renamed(FIELDS):
        answer = await context.run(begin, context, body.as_chat())
    writer, headers = ResponseWriter(answer, body), {"x-steering-fingerprint": answer.steering.plan.fingerprint}
    if body.stream:
        stream = streamed_response(writer, context.served.settings)
        return StreamingResponse(stream, media_type="text/event-stream", headers={**headers, **STREAM_HEADERS})
    with renamed(FIELDS):
        (completion,) = await completions(answer.generations, context.request, context.served.settings.timeout)
    answer.record.add_text(0, completion.text)
    item = writer.item(completion.text, writer.status(completion.outcome), completion.events)
    steering = answer.end([completion.outcome])
    return JSONResponse(writer.ended([item], completion.outcome, steering), headers=headers)
