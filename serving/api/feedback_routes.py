"""Feedback: a client's judgement of an answer, kept as an assessment of the answer's trace in MLflow."""

import re
from typing import Annotated, Any, Self

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from registry.errors import NotFound
from registry.traces import TraceLog
from serving.api.dependencies import Context
from serving.api.error_documents import documented
from serving.api.errors import ApiError
from serving.api.request_body import RequestBody, field_error

router = APIRouter(tags=["feedback"])


class AnswerNotFound(ApiError):
    status, code = 404, "answer_not_found"


class AnswersNotTraced(ApiError):
    status, code = 409, "answers_not_traced"


class FeedbackRequest(RequestBody):
    """POST /v1/feedback."""

    request_id: str = Field(pattern=r"^[A-Za-z0-9_.:-]{1,128}$", examples=["7d0b2f6c"])
    """``X-Request-Id`` of the answer."""
    name: str = Field("feedback", examples=["helpful"])
    value: bool | float | Annotated[str, Field(max_length=1000)] = Field(examples=[True])
    comment: str | None = Field(None, max_length=10_000)

    @field_validator("name")
    @classmethod
    def _require_short(cls, name: str) -> str:
        if not re.fullmatch(r"[\w .:-]{1,100}", name):
            raise PydanticCustomError("kind", "it should have 1 to 100 letters, digits, spaces and any of _ . : -")
        return name

    @field_validator("value", mode="before")
    @classmethod
    def _require_scalar(cls, value: Any) -> Any:
        if not isinstance(value, bool | int | float | str):
            raise PydanticCustomError("kind", "it should be true, false, a number or a text")
        return value

    @model_validator(mode="after")
    def _require_storable(self) -> Self:
        for name in ("value", "comment"):
            if "\0" in str(getattr(self, name)):
                raise field_error(name, "it holds a NUL character, which databases cannot store: leave it out")
        return self


class FeedbackResponse(BaseModel):
    request_id: str
    assessment_id: str


def _traces(request: Request) -> TraceLog:
    traces: TraceLog | None = request.app.state.traces
    if traces is None:
        raise AnswersNotTraced("answers are not traced, so none can be judged; start with TRUSTTRACE_TRACE=true")
    return traces


@router.post(
    "/v1/feedback",
    responses={200: {"model": FeedbackResponse}, **documented(404, 409, 503)},
    summary="Judge an answer",
)
async def feedback(
    body: FeedbackRequest, context: Context, traces: Annotated[TraceLog, Depends(_traces)]
) -> JSONResponse:
    try:
        assessment = await context.run(traces.judge, body.request_id, body.name, body.value, body.comment)
    except NotFound as error:
        raise AnswerNotFound(str(error), param="request_id") from error
    return JSONResponse({"request_id": body.request_id, "assessment_id": assessment})
