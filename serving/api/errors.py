"""Errors of the API: which status and which of OpenAI's error envelopes an exception becomes, decided here alone.

{"error": {"message": …, "type": …, "param": …, "code": …}}
"""

import logging
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from registry.errors import CorruptFile, InvalidInput, Mismatch, NotFound, TrustTraceError, Unavailable, redacted
from serving.api.methods import allowed_methods
from serving.engine.base import PromptTooLong, QueueFull
from serving.model.chat_templates import TemplateShareExceeded
from serving.steering.errors import (
    InvalidSteering,
    SteeringNotReady,
    StrengthOutOfRange,
    VectorNotServed,
    VectorRefused,
)

logger = logging.getLogger(__name__)

RETRY_SECONDS = 5
"""Seconds after which a client may ask a service again that is loading or going away."""

LONGEST_TOLD = 1000
"""Characters of a message, or of a field's name, which both may repeat what a client sent and go into the log."""

INVALID = "invalid_request_error"
SERVER = "server_error"


class ApiError(TrustTraceError):
    """An error whose status and code are known where it is raised."""

    status, type, code = 400, INVALID, "invalid_request"

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.param = param
        self.code = code or self.code


class KeyRequired(ApiError):
    status, type, code = 401, "authentication_error", "invalid_api_key"


class Forbidden(ApiError):
    status, type, code = 403, "permission_error", "not_allowed"


class ModelNotFound(ApiError):
    status, code = 404, "model_not_found"


class ShareExceeded(ApiError):
    """One client takes more of the service than is left for the others."""

    status, type, code = 429, "rate_limit_error", "client_share_exceeded"


class ServiceUnavailable(ApiError):
    """The service is loading, shutting down, or cannot steer yet."""

    status, type, code = 503, SERVER, "unavailable"


class ClientGone(ApiError):
    """Nobody is there to read the answer."""

    status, code = 499, "client_closed_request"


class ContextExceeded(ApiError):
    """A text that does not fit, in the words by which clients know a context overflow."""

    code = "context_length_exceeded"

    def __init__(self, cause: PromptTooLong, param: str | None = None) -> None:
        room, what = (", one of them for the answer", "prompt") if cause.is_answered else ("", "text")
        super().__init__(
            f"This model's maximum context length is {cause.window} tokens{room}. However, your {what} has "
            f"{cause.length} tokens. Please shorten it.",
            param=param,
        )


class DeadlineExceeded(ApiError):
    status, type, code = 504, SERVER, "timeout"


def require_model(name: str | None, served: str) -> None:
    """Raise ``ModelNotFound`` for a model that is not the one served."""
    if name is not None and name != served:
        raise ModelNotFound(f"the model {name!r} is not served here; served: {served}", param="model")


DOMAIN: Sequence[tuple[type[TrustTraceError], int, str, str]] = (
    (StrengthOutOfRange, 422, INVALID, "dose_exceeded"),
    (VectorNotServed, 404, INVALID, "vector_not_found"),
    (VectorRefused, 409, INVALID, "vector_unavailable"),
    (SteeringNotReady, 503, SERVER, "unavailable"),
    (InvalidSteering, 400, INVALID, "invalid_steering"),
    (QueueFull, 429, "rate_limit_error", "queue_full"),
    (TemplateShareExceeded, 429, "rate_limit_error", "client_share_exceeded"),
    (NotFound, 404, INVALID, "vector_not_found"),
    (Mismatch, 409, INVALID, "vector_checkpoint_mismatch"),
    (CorruptFile, 409, INVALID, "vector_unreadable"),
    (Unavailable, 503, SERVER, "unavailable"),
    (InvalidInput, 400, INVALID, "invalid_request"),
)
"""Errors of the packages below, the most special first."""

NO_OBJECT = "the body must be a JSON object, sent with the header Content-Type: application/json"
WORDS = {
    "Input should": "it should",
    "String should": "it should",
    "List should": "it should",
    " after validation": "",
    "Field required": "it is required",
    "a valid dictionary or object to extract fields from": "a JSON object",
    "a valid dictionary": "a JSON object",
    "a valid list": "a list",
}
"""Pydantic's words and ours: who sends JSON need not know Python."""
UNREADABLE = "the body cannot be read: send JSON as it is, not compressed, nested less deep and with shorter numbers"
"""In place of FastAPI's word for what JSON's parser raises beside syntax errors."""


def envelope(message: str, type: str, code: str, param: str | None = None) -> dict[str, Any]:
    """OpenAI's error object; its texts can always be written, whatever a client sent."""
    return {"error": {"message": _writable(redacted(message)), "type": type, "param": _writable(param), "code": code}}


def _writable(text: Any) -> Any:
    if not isinstance(text, str):
        return text
    shown = text if len(text) <= LONGEST_TOLD else f"{text[:LONGEST_TOLD]}…"
    return shown.encode("utf-8", "backslashreplace").decode()


def as_reply(error: Exception) -> tuple[int, dict[str, Any], dict[str, str]]:
    """Status, body and headers. What nobody foresaw is logged, and answered without its text."""
    if isinstance(error, PromptTooLong):
        error = ContextExceeded(error)
    if isinstance(error, ApiError):
        body = envelope(str(error), error.type, error.code, error.param)
        return error.status, body, _headers(error.status, RETRY_SECONDS)
    for kind, status, type, code in DOMAIN:
        if isinstance(error, kind):
            wait = error.retry_after if isinstance(error, QueueFull) else RETRY_SECONDS
            if isinstance(error, VectorRefused) and isinstance(error.__cause__, Mismatch):
                code = "vector_checkpoint_mismatch"
            param = getattr(error, "param", None)
            return status, envelope(str(error), type, code, param), _headers(status, wait)
    logger.error("request failed", exc_info=error)
    return 500, envelope("the service failed; its log has the request's id", SERVER, "internal_error"), {}


@contextmanager
def at_field(param: str) -> Iterator[None]:
    """What the registry refuses is a field of the request."""
    try:
        yield
    except Unavailable:
        raise
    except TrustTraceError as error:
        error.param = param  # type: ignore[attr-defined]
        raise


def _headers(status: int, wait: float) -> dict[str, str]:
    if status == 401:
        return {"WWW-Authenticate": "Bearer"}
    return {"Retry-After": str(max(1, math.ceil(wait)))} if status in (429, 503) else {}


def install(app: FastAPI) -> None:
    """Make ``app`` answer every error in the envelope."""
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
    if status == 405:
        headers["Allow"] = ", ".join(allowed_methods(request))
    detail = UNREADABLE if status == 400 else str(error.detail)
    content = http_envelope(status, detail, request.method, request.url.path, headers.get("Allow", "another method"))
    return JSONResponse(content, status, headers)


def http_envelope(status: int, detail: str, method: str, path: str, allowed: str = "another method") -> dict[str, Any]:
    """An error of HTTP itself; ``detail`` is the message where no better one is known."""
    messages = {
        404: (f"there is no {path}; GET /docs.json lists every path", "not_found"),
        405: (f"{path} does not take {method}; it takes {allowed}", "bad_method"),
        408: ("the request body did not arrive in time (TRUSTTRACE_BODY_TIMEOUT); send it again", "request_timeout"),
        413: ("the body is larger than the service takes (TRUSTTRACE_BODY_LIMIT); send less", "request_too_large"),
    }
    message, code = messages.get(status, (detail or f"the service answered {status}", "invalid_request"))
    return envelope(message, INVALID if status < 500 else SERVER, code)


_UNION_MEMBER = re.compile(
    r"(Steering|Message|TextPart|NamedTool|(constrained-)?(str|float|int|bool)|(list|literal|dict|function-\w+)\[.*\])"
)
"""Names that pydantic adds to the location of a field that may be of several types."""


async def _invalid(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    body = invalid_envelope(error.errors())
    return JSONResponse(body, 400)


def invalid_envelope(problems: Sequence[Mapping[str, Any]], skip: int = 1) -> dict[str, Any]:
    """The envelope for a body that pydantic refuses: of the first field at fault, where deepest in it.

    ``skip`` parts of a location come before the field; FastAPI's have one.
    """
    field = problems[0]["loc"][: skip + 1]
    problem = max((problem for problem in problems if problem["loc"][: skip + 1] == field), key=_reach)
    place = _place(problem)[skip:]
    param = ".".join(place) or None
    if problem["type"] == "json_invalid":
        return envelope(
            f"the body is not JSON: {problem['ctx']['error']} at character {problem['loc'][-1]}",
            INVALID,
            "invalid_request",
        )
    if problem["type"] in ("refused", "value_error") or param is None:
        message = _sentence(problem) if param or problem["type"] == "value_error" else NO_OBJECT
    else:
        message = f"`{param}`: {_sentence(problem)}"
    return envelope(message, INVALID, "invalid_steering" if place[:1] == ["steering"] else "invalid_request", param)


def _place(problem: Mapping[str, Any]) -> list[str]:
    return [str(part) for part in problem["loc"] if not _UNION_MEMBER.fullmatch(str(part))]


def _reach(problem: Mapping[str, Any]) -> tuple[int, list[int], bool]:
    """How deep in the field it is, how far along its lists, and whether the value is only too long: of the types that a
    field may be of, the one that the value was taken for the longest is the one that was meant.
    """
    places = [part for part in problem["loc"] if isinstance(part, int)]
    return len(_place(problem)), places, problem["type"].startswith(("string_too", "too_"))


def _sentence(problem: Mapping[str, Any]) -> str:
    """Pydantic's message, with the value beside it where it is short."""
    if problem["type"] == "value_error":
        return str(problem["ctx"]["error"])
    if problem["type"] == "extra_forbidden":
        return "there is no such field"
    message = str(problem["msg"])
    for theirs, ours in WORDS.items():
        message = message.replace(theirs, ours, 1)
    value = problem.get("input")
    short = isinstance(value, str | int | float) and len(repr(value)) <= 40 and problem["type"] != "refused"
    return f"{message}, not {value!r}" if short else message
