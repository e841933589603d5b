"""Service middleware: access, limits, logs and one shape of errors, before every route, BentoML's own among them."""

import asyncio
import json
import logging
import re
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from registry.errors import TrustTraceError
from serving.api.auth import WATCHED, client_name, is_trusted, require_allowed
from serving.api.bodies import IncomingBody, RequestBodies
from serving.api.errors import Forbidden, as_reply, http_envelope
from serving.api.metrics import route_label
from serving.api.pace import Pace
from serving.api.request_record import KEY, RequestRecord
from serving.settings import Settings

logger = logging.getLogger("trusttrace.requests")

OWN = frozenset({"/", "/livez", "/healthz", "/health", "/readyz", "/metrics", "/docs.json", "/generate"})
"""Paths that BentoML answers too, and that ``own`` answers instead."""

REFUSALS = frozenset(range(400, 500)) - {429}

_REQUEST_ID = re.compile(r"[A-Za-z0-9_.:-]{1,128}")


class ServiceMiddleware:
    """Wraps ``app``; ``own`` answers the paths in ``OWN``. ``on_end`` is given the record of every request.

    ``routes`` are the templates of paths that metrics may name; ``bodies`` bound what clients send.
    """

    def __init__(
        self,
        app: ASGIApp,
        own: ASGIApp,
        settings: Settings,
        on_end: Callable[[RequestRecord], None] = lambda _: None,
        routes: Sequence[str] = (),
        bodies: RequestBodies | None = None,
    ) -> None:
        self._app, self._own, self._settings, self._on_end, self._routes = app, own, settings, on_end, routes
        self._bodies = bodies or RequestBodies(settings.body_limit, settings.body_timeout)
        self._pace = Pace(settings.pace)
        self._with_cors = CORSMiddleware(
            self._answer,
            allow_origins=settings.allowed_origins,
            allow_methods=["GET", "HEAD", "POST", "PUT", "DELETE"],
            allow_headers=["*"],
            expose_headers=["x-request-id", "x-steering-fingerprint", "retry-after"],
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        record = scope[KEY] = self._record(scope, headers)
        body = IncomingBody(receive, headers)
        reply = _Reply(send, record, body, rewrap=scope["path"] not in OWN)
        app = self._with_cors if headers.get("origin") in self._settings.allowed_origins else self._answer
        try:
            await app(scope, body.receive, reply.send)
        finally:
            logger.info("answered", extra=record.to_dict())
            self._on_end(record)
        if reply.is_unfinished:
            await self._bodies.discard(body)
            await reply.finish()

    def _record(self, scope: Scope, headers: Headers) -> RequestRecord:
        given, address = headers.get("x-request-id", ""), _address(scope)
        return RequestRecord(
            given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex,
            scope["method"],
            scope["path"],
            client=client_name(self._settings, headers, address),
            is_trusted=is_trusted(self._settings, headers, address, scope["http_version"]),
            route=route_label(scope["path"], self._routes),
            keeps_texts=self._settings.log_prompts,
        )

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False

        async def send_begun(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            async with self._at_pace(scope) as arrived:
                self._require_allowed(scope)
                app = self._own if scope["path"] in OWN else self._app
                if scope["method"] == "HEAD":
                    scope = {**scope, "method": "GET"}  # of which the server leaves the body out
                await app(scope, await self._bodies.read(receive, arrived), send_begun)
        except (TrustTraceError, HTTPException) as error:
            if not begun:
                await _refusal(error, scope)(scope, receive, send)

    @asynccontextmanager
    async def _at_pace(self, scope: Scope) -> AsyncIterator[Callable[[int], None]]:
        """Wait for the client's turn; what is given counts the bytes of its body. What a cluster asks has no turn, and
        keys that nobody has given out are one client's.
        """
        record: RequestRecord = scope[KEY]
        client = record.client if record.is_trusted else f"unknown {_address(scope)}"
        arrived = partial(self._pace.arrived, client)
        if scope["path"] in WATCHED:
            yield arrived
            return
        wait = self._pace.begin(client)
        try:
            if wait:
                await asyncio.sleep(wait)
            yield arrived
        finally:
            self._pace.end(client, refused=not record.status or record.status in REFUSALS)

    def _require_allowed(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        if (
            scope["method"] == "OPTIONS"
            and "origin" in headers
            and headers["origin"] not in self._settings.allowed_origins
        ):
            raise Forbidden(
                f"pages of {headers['origin'][:100]!r} may not call this service; add the origin to "
                "TRUSTTRACE_ALLOWED_ORIGINS"
            )
        version = scope["http_version"]
        require_allowed(self._settings, scope["method"], scope["path"], headers, _address(scope), version)
        if "content-length" in headers and "transfer-encoding" in headers:  # a proxy may have read it otherwise
            raise HTTPException(
                400, "send either Content-Length or Transfer-Encoding, not both", {"Connection": "close"}
            )
        declared = headers.get("content-length", "0")
        if declared.isdigit() and int(declared) > self._bodies.limit:
            raise HTTPException(413)


def _address(scope: Scope) -> str | None:
    return scope["client"][0] if scope.get("client") else None


def _refusal(error: Exception, scope: Scope) -> JSONResponse:
    if isinstance(error, HTTPException):
        body = http_envelope(error.status_code, str(error.detail), scope["method"], scope["path"])
        return JSONResponse(body, error.status_code, error.headers)
    status, content, reply_headers = as_reply(error)
    return JSONResponse(content, status, reply_headers)


class _Reply:
    """The way back: with the request's id, errors of whatever origin in the one envelope, and their code recorded.

    Where a request is answered before its body has come, the connection ends with it: the rest would be read as long as
    the client sends, uncounted, and the server's timer for idle connections would not run.
    """

    def __init__(self, send: Send, record: RequestRecord, request_body: IncomingBody, *, rewrap: bool) -> None:
        self._send_on, self._record, self._request_body, self._rewrap = send, record, request_body, rewrap
        self._held: Message | None = None
        self._body = b""
        self.is_unfinished = False
        """Whether all has been sent but the end of the answer, with which the connection is closed."""

    async def finish(self) -> None:
        await self._send_on({"type": "http.response.body", "body": b""})

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            await self._request_body.take_arrived()
            self.is_unfinished = not self._request_body.has_ended
            if self.is_unfinished:
                MutableHeaders(scope=message)["connection"] = "close"
        elif self.is_unfinished:
            message = {**message, "more_body": True}
        await self._send_on(message)

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._record.status = message["status"]
            MutableHeaders(scope=message)["x-request-id"] = self._record.request_id
            if message["status"] >= 400:
                self._held = message
                return
        elif self._held is not None and message["type"] == "http.response.body":
            self._body += message.get("body", b"")
            if message.get("more_body"):
                return
            held, self._held = self._held, None
            body = self._error_body(held)
            await self._send(held)
            message = {**message, "body": body}
        await self._send(message)

    def _error_body(self, start: Message) -> bytes:
        """The body if it is an error in the envelope; else what it says, in one."""
        try:
            content: Any = json.loads(self._body)
        except ValueError:
            content = self._body.decode("utf-8", "replace").strip()
        error = content.get("error") if isinstance(content, dict) else None
        if isinstance(error, dict):
            self._record.fail(self._record.status, error)
            return self._body
        if not self._rewrap:
            return self._body
        wrapped = http_envelope(start["status"], _sentence(content), self._record.method, self._record.path)
        self._record.fail(self._record.status, wrapped["error"])
        body = json.dumps(wrapped).encode()
        headers = MutableHeaders(scope=start)
        headers["content-type"], headers["content-length"] = "application/json", str(len(body))
        return body


def _sentence(content: Any) -> str:
    """The words of BentoML's error body, which is a list now and then."""
    if isinstance(content, list) and content:
        return _sentence(content[0])
    if isinstance(content, dict):
        problems = [
            f"{'.'.join(map(str, problem.get('loc', [])))}: {problem.get('msg', '')}"
            for problem in content.get("detail") or []
            if isinstance(problem, dict)
        ]
        return "; ".join(problems) or str(content.get("error", ""))
    return content if isinstance(content, str) else ""
