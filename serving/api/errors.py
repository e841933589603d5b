"""From what went wrong to a status and OpenAI's error envelope: the one place where that is decided.

{"error": {"message": …, "type": …, "param": …, "code": …}}
"""

import logging
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from registry.errors import CorruptFile, InvalidInput, Mismatch, NotFound, TrustTraceError, Unavailable
from serving.engine.base import PromptTooLong, QueueFull

logger = logging.getLogger(__name__)

RETRY_SECONDS = 5
"""After which a client may ask a service again that is loading or going away."""

INVALID = "invalid_request_error"
SERVER = "server_error"


class ApiError(TrustTraceError):
    """An error whose status and code are known where it is raised."""

    status, type, code = 400, INVALID, "invalid_request"

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.param = param
        self.code = code or self.code


class InvalidSteering(ApiError):
    code = "invalid_steering"


class KeyRequired(ApiError):
    status, type, code = 401, "authentication_error", "invalid_api_key"


class Forbidden(ApiError):
    status, type, code = 403, "permission_error", "not_allowed"


class ModelNotFound(ApiError):
    status, code = 404, "model_not_found"


class VectorNotFound(ApiError):
    status, code = 404, "vector_not_found"


class VectorMismatch(ApiError):
    status, code = 409, "vector_checkpoint_mismatch"


class DoseExceeded(ApiError):
    status, code = 422, "dose_exceeded"


class NotServing(ApiError):
    """The service is loading, draining, or has no vectors yet."""

    status, type, code = 503, SERVER, "unavailable"


class DeadlineExceeded(ApiError):
    status, type, code = 504, SERVER, "timeout"


def require_model(asked: str | None, served: str) -> None:
    """Raise ``ModelNotFound`` for a model that is not the one served."""
    if asked is not None and asked != served:
        raise ModelNotFound(f"the model {asked!r} is not served here; served: {served}", param="model")


class ErrorDetail(BaseModel):
    message: str
    """One sentence: what clashes with what, and what to do."""
    type: str
    param: str | None
    """The field at fault, such as ``steering.strengths.privacy``."""
    code: str


class ErrorBody(BaseModel):
    error: ErrorDetail


DOMAIN: Sequence[tuple[type[TrustTraceError], int, str, str]] = (
    (PromptTooLong, 413, INVALID, "context_length_exceeded"),
    (QueueFull, 429, "rate_limit_error", "queue_full"),
    (NotFound, 404, INVALID, "vector_not_found"),
    (Mismatch, 409, INVALID, "vector_checkpoint_mismatch"),
    (CorruptFile, 409, INVALID, "vector_unreadable"),
    (Unavailable, 503, SERVER, "unavailable"),
    (InvalidInput, 400, INVALID, "invalid_request"),
)
"""Errors of the packages below, the most special first."""

MEANINGS: Mapping[int, str] = {
    400: "The request cannot be understood, or names something that does not exist",
    401: "A key is needed",
    403: "This key, or this machine, may not",
    404: "No such model, vector or path",
    405: "The path does not have this method",
    409: "The vector does not belong to the model that is served",
    413: "The body or the prompt is too long",
    422: "A strength is beyond its range",
    429: "The queue is full; Retry-After says when to try again",
    500: "A fault of the service; its log has the request's id",
    503: "The service is loading, going away, or cannot reach the registry",
    504: "The answer took longer than a request may",
}


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The error answers of a route, for the OpenAPI document: those that every route has, and ``statuses``."""
    every = (400, 401, 403, 500)
    return {status: {"model": ErrorBody, "description": MEANINGS[status]} for status in sorted({*every, *statuses})}


def envelope(message: str, type: str, code: str, param: str | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": type, "param": param, "code": code}}


def as_reply(error: Exception) -> tuple[int, dict[str, Any], dict[str, str]]:
    """Status, body and headers. What nobody foresaw is logged, and told without its text."""
    if isinstance(error, ApiError):
        body = envelope(str(error), error.type, error.code, error.param)
        return error.status, body, _headers(error.status, RETRY_SECONDS)
    for kind, status, type, code in DOMAIN:
        if isinstance(error, kind):
            wait = error.retry_after if isinstance(error, QueueFull) else RETRY_SECONDS
            return status, envelope(str(error), type, code), _headers(status, wait)
    logger.error("request failed", exc_info=error)
    return 500, envelope("the service failed; its log has the request's id", SERVER, "internal_error"), {}


def _headers(status: int, wait: float) -> dict[str, str]:
    if status == 401:
        return {"WWW-Authenticate": "Bearer"}
    return {"Retry-After": str(max(1, math.ceil(wait)))} if status in (429, 503) else {}


def install(app: FastAPI) -> None:
    """Have ``app`` answer every error in the envelope."""
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(TrustTraceError, _reply)
    app.add_exception_handler(Exception, _reply)


async def _reply(_request: Request, error: Exception) -> JSONResponse:
    status, body, headers = as_reply(error)
    return JSONResponse(body, status, headers)


async def _http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    status, headers = error.status_code, dict(error.headers or {})
    path, allowed = request.url.path, headers.get("Allow", "another method")
    return JSONResponse(http_envelope(status, str(error.detail), request.method, path, allowed), status, headers)


def http_envelope(status: int, detail: str, method: str, path: str, allowed: str = "another method") -> dict[str, Any]:
    """An error of HTTP itself; ``detail`` is said where there is nothing better to say."""
    messages = {
        404: (f"there is no {path}; GET /docs.json lists every path", "not_found"),
        405: (f"{path} does not take {method}; it takes {allowed}", "bad_method"),
        413: ("the body is larger than the service takes (TRUSTTRACE_BODY_LIMIT); send less", "request_too_large"),
    }
    message, code = messages.get(status, (detail or f"the service answered {status}", "invalid_request"))
    return envelope(message, INVALID if status < 500 else SERVER, code)


_UNION_MEMBER = re.compile(r"(Steering|Message|TextPart|str|float|int|(list|literal|dict)\[.*\])")
"""What pydantic names beside a field that may be of several types."""


async def _invalid(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    place = [str(part) for part in first["loc"][1:] if not _UNION_MEMBER.fullmatch(str(part))]
    if first["type"] == "json_invalid":
        message, place = f"the body is not JSON: {first['ctx']['error']} at character {first['loc'][-1]}", []
    elif place:
        message = f"{'.'.join(place)}: {_sentence(first)}"
    elif first["type"] == "value_error":
        message = _sentence(first)
    else:
        message = "the body must be a JSON object, sent as application/json"
    code = "invalid_steering" if place[:1] == ["steering"] else "invalid_request"
    return JSONResponse(envelope(message, INVALID, code, ".".join(place) or None), 400)


def _sentence(problem: Mapping[str, Any]) -> str:
    """What pydantic says, with the value beside it where it is short."""
    if problem["type"] == "value_error":
        return str(problem["ctx"]["error"])
    if problem["type"] == "extra_forbidden":
        return "there is no such field"
    message = str(problem["msg"]).replace("Input should", "it should", 1).replace("Field required", "it is required", 1)
    value = problem.get("input")
    return f"{message}, not {value!r}" if isinstance(value, str | int | float) and len(repr(value)) <= 40 else message
