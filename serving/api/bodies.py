"""Request bodies on their way in: bounded in size and in time, and given up when the service shuts down."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress

from starlette.exceptions import HTTPException
from starlette.types import Message, Receive

from serving.api.errors import ClientGone, ServiceUnavailable

LINGER = 2.0
"""Seconds in which a client may send the rest of a body that nobody wants, before its connection is closed."""
MOST_DISCARDED = 2**22
"""So many bytes of that rest are read at most."""


class IncomingBody:
    """The body of one request as it arrives. ``has_ended`` when nothing more of it can come."""

    def __init__(self, receive: Receive, headers: Mapping[str, str]) -> None:
        self._receive = receive
        self._awaits_consent = "expect" in headers
        self.has_ended = "transfer-encoding" not in headers and headers.get("content-length", "0") == "0"

    async def receive(self) -> Message:
        message = await self._receive()
        self.has_ended = self.has_ended or not message.get("more_body", False)
        return message

    async def take_arrived(self) -> None:
        """Drop what has come already, without waiting; a client that awaits `100 Continue` is not told to send."""
        with suppress(TimeoutError):
            while not (self.has_ended or self._awaits_consent):
                async with asyncio.timeout(0):
                    await self.receive()


class RequestBodies:
    """The bodies that one worker reads. Beyond ``limit`` bytes they end with 413, after ``seconds`` with 408."""

    def __init__(self, limit: int, seconds: float) -> None:
        self.limit, self.seconds = limit, seconds
        self._unread: set[asyncio.Timeout] = set()
        self._closed = False

    async def read(self, receive: Receive, arrived: Callable[[int], None] = lambda _: None) -> Receive:
        """``receive`` of a request whose body is there: it gives the body, and then waits as long as the client stays.

        Routes are not begun for a body that never comes. ``arrived`` is told the bytes of each part. Raises
        ``HTTPException``, ``ServiceUnavailable``, or ``ClientGone``.
        """
        parts: list[bytes] = []
        size, more, deadline = 0, True, asyncio.get_running_loop().time() + self.seconds
        while more:
            message = await self._next(receive, deadline)
            if message["type"] != "http.request":
                raise ClientGone("the client closed the connection before its request was whole")
            parts.append(message.get("body", b""))
            arrived(len(parts[-1]))
            size, more = size + len(parts[-1]), message.get("more_body", False)
            if size > self.limit:
                raise HTTPException(413)
        whole: list[Message] = [{"type": "http.request", "body": b"".join(parts), "more_body": False}]

        async def receive_whole() -> Message:
            return whole.pop() if whole else await receive()

        return receive_whole

    async def discard(self, body: IncomingBody) -> None:
        """Drop the rest of a body whose request is answered, for a while.

        A connection that is closed while its client sends is reset, and the client may never see the answer.
        """
        size, deadline = 0, asyncio.get_running_loop().time() + LINGER
        with suppress(HTTPException, ServiceUnavailable):
            while not body.has_ended and size <= MOST_DISCARDED:
                size += len((await self._next(body.receive, deadline)).get("body", b""))

    def close(self) -> None:
        """Give up what has not arrived, and wait for no body any more; from the event loop's thread."""
        self._closed = True
        for timeout in self._unread:
            timeout.reschedule(0)

    async def _next(self, receive: Receive, deadline: float) -> Message:
        timeout = asyncio.timeout_at(0 if self._closed else deadline)
        try:
            async with timeout:
                self._unread.add(timeout)
                return await receive()
        except TimeoutError as error:
            if self._closed:
                raise ServiceUnavailable("the service is shutting down; ask another one") from error
            raise HTTPException(408) from error
        finally:
            self._unread.discard(timeout)
