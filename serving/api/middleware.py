"""The outermost layer of the service: who may ask, how much may be sent, what is logged, and one shape of errors.

It stands before every route, BentoML's own among them.
"""

import json
import logging
import re
import uuid
from collections.abc import Callable
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from registry.errors import TrustTraceError
from serving.api.auth import require_allowed
from serving.api.errors import as_reply, http_envelope
from serving.api.request_record import KEY, RequestRecord
from serving.logs import FIELDS
from serving.settings import Settings

logger = logging.getLogger("trusttrace.requests")

OWN = frozenset({"/", "/livez", "/healthz", "/readyz", "/docs.json"})
"""Paths that BentoML answers too, and that ``own`` answers instead."""

_REQUEST_ID = re.compile(r"[A-Za-z0-9_.:-]{1,128}")


class ServiceMiddleware:
    """Wraps ``app``; ``own`` is asked directly for the paths in ``OWN``. ``on_end`` is told of every request."""

    def __init__(
        self, app: ASGIApp, own: ASGIApp, settings: Settings, on_end: Callable[[RequestRecord], None] = lambda _: None
    ) -> None:
        self._app, self._own, self._settings, self._on_end = app, own, settings, on_end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        record = RequestRecord(request_id, scope["method"], scope["path"], keeps_texts=self._settings.log_prompts)
        scope[KEY] = record
        own = scope["path"] in OWN
        reply = _Reply(send, record, rewrap=not own)
        try:
            self._require_allowed(scope, headers)
            app = self._own if own else self._app
            await app(scope, self._bounded(receive), reply.send)
        except (TrustTraceError, HTTPException) as error:
            await _refuse(error, scope, receive, reply)
        finally:
            logger.info("answered", extra={FIELDS: record.told()})
            self._on_end(record)

    def _require_allowed(self, scope: Scope, headers: Headers) -> None:
        client = scope["client"][0] if scope.get("client") else None
        require_allowed(self._settings, scope["method"], scope["path"], headers, client)
        declared = headers.get("content-length", "0")
        if declared.isdigit() and int(declared) > self._settings.body_limit:
            raise HTTPException(413)

    def _bounded(self, receive: Receive) -> Receive:
        """``receive`` that ends a body which is longer than may be, whatever length it declared."""
        read = 0

        async def bounded() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > self._settings.body_limit:
                raise HTTPException(413)
            return message

        return bounded


async def _refuse(error: Exception, scope: Scope, receive: Receive, reply: "_Reply") -> None:
    if reply.begun:
        return
    if isinstance(error, HTTPException):
        told = http_envelope(error.status_code, str(error.detail), scope["method"], scope["path"])
        answer = JSONResponse(told, error.status_code)
    else:
        status, body, headers = as_reply(error)
        answer = JSONResponse(body, status, headers)
    await answer(scope, receive, reply.send)


class _Reply:
    """What goes back: with the request's id on it, and errors of whatever origin in the one envelope."""

    def __init__(self, send: Send, record: RequestRecord, *, rewrap: bool) -> None:
        self._send, self._record, self._rewrap = send, record, rewrap
        self._held: Message | None = None
        self._body = b""
        self.begun = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.begun = True
            self._record.status = message["status"]
            MutableHeaders(scope=message)["x-request-id"] = self._record.request_id
            if message["status"] >= 400 and self._rewrap:
                self._held = message
                return
        elif self._held is not None and message["type"] == "http.response.body":
            self._body += message.get("body", b"")
            if message.get("more_body"):
                return
            held, self._held = self._held, None
            body = _in_envelope(self._body, held, self._record)
            await self._send(held)
            message = {**message, "body": body}
        await self._send(message)


def _in_envelope(body: bytes, start: Message, record: RequestRecord) -> bytes:
    """``body`` if it is an error in the envelope; else what it says, in one."""
    try:
        content: Any = json.loads(body)
        if isinstance(content, dict) and isinstance(content.get("error"), dict):
            return body
    except ValueError:
        content = body.decode("utf-8", "replace").strip()
    told = http_envelope(start["status"], _sentence(content), record.method, record.path)
    wrapped = json.dumps(told).encode()
    headers = MutableHeaders(scope=start)
    headers["content-type"], headers["content-length"] = "application/json", str(len(wrapped))
    return wrapped


def _sentence(content: Any) -> str:
    """The words in what BentoML says of an error, which is a list now and then."""
    if isinstance(content, list) and content:
        return _sentence(content[0])
    if isinstance(content, dict):
        problems = [
            f"{'.'.join(map(str, one.get('loc', [])))}: {one.get('msg', '')}"
            for one in content.get("detail") or []
            if isinstance(one, dict)
        ]
        return "; ".join(problems) or str(content.get("error", ""))
    return content if isinstance(content, str) else ""
