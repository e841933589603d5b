"""Error documents: what the OpenAPI document says of a route's errors, by their statuses."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from serving.api.errors import INVALID, SERVER


class ErrorDetail(BaseModel):
    message: str
    """One sentence: which values clash, and what to do."""
    type: str
    param: str | None
    """The field at fault, such as ``steering.strengths.privacy``."""
    code: str


class ErrorBody(BaseModel):
    error: ErrorDetail


MEANINGS: Mapping[int, str] = {
    400: "Bad request: a field is wrong, not supported, or the prompt is longer than the model's context",
    401: "Unauthorized: an API key is needed, or a signature that fits",
    403: "Forbidden: this key lacks the permission, or the client is not local",
    404: "Not found: no such model, vector or path",
    405: "The path does not have this method",
    408: "The request body did not arrive in time",
    409: "The vector does not belong to the model that is served",
    413: "The request body is too large",
    422: "A strength is beyond its range",
    429: "The queue, or this client's share of it, is full; Retry-After says when to try again",
    500: "A fault of the service; its log has the request's id",
    503: "The service is loading, shutting down, or cannot reach the registry",
    504: "The answer took longer than a request may",
}


CODES: Mapping[int, tuple[str, ...]] = {
    400: ("invalid_request", "invalid_steering", "context_length_exceeded"),
    401: ("invalid_api_key", "invalid_signature"),
    403: ("not_allowed",),
    404: ("model_not_found", "vector_not_found", "answer_not_found"),
    408: ("request_timeout",),
    409: ("vector_checkpoint_mismatch", "vector_unavailable", "vector_unreadable", "answers_not_traced"),
    413: ("request_too_large",),
    422: ("dose_exceeded",),
    429: ("queue_full", "client_share_exceeded"),
    500: ("internal_error", "generation_failed"),
    503: ("unavailable", "default_unavailable"),
    504: ("timeout",),
}
"""The codes of the envelope, by status."""


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The error responses of a route, for the OpenAPI document: those that every route has, and ``statuses``."""
    every = (400, 401, 403, 408, 413, 500)
    return {status: _documented(status) for status in sorted({*every, *statuses})}


def _documented(status: int) -> dict[str, Any]:
    """An error response with the codes that it may have."""
    codes = CODES.get(status, ())
    description = f"{MEANINGS[status]} ({', '.join(codes)})" if codes else MEANINGS[status]
    error = {"message": MEANINGS[status], "type": INVALID if status < 500 else SERVER, "param": None}
    content = {"application/json": {"example": {"error": {**error, "code": codes[0] if codes else "error"}}}}
    return {"model": ErrorBody, "description": description, "content": content}
