"""Request bodies on their way in: bounded in size and in time, and given up when the service shuts down."""

import asyncio

from starlette.exceptions import HTTPException
from starlette.types import Message, Receive

from serving.api.errors import ServiceUnavailable

CLOSE = {"Connection": "close"}


class RequestBodies:
    """The bodies that one worker reads. Beyond ``limit`` bytes they end with 413, after ``seconds`` with 408."""

    def __init__(self, limit: int, seconds: float) -> None:
        self.limit, self.seconds = limit, seconds
        self._unread: set[asyncio.Timeout] = set()
        self._closed = False

    def bounded(self, receive: Receive) -> Receive:
        """``receive`` for one request; once its body is whole it waits as long as the client stays."""
        read, whole, deadline = 0, False, asyncio.get_running_loop().time() + self.seconds

        async def receive_bounded() -> Message:
            nonlocal read, whole
            if whole:
                return await receive()
            message = await self._next(receive, deadline)
            read += len(message.get("body", b""))
            whole = message["type"] != "http.request" or not message.get("more_body")
            if read > self.limit:
                raise HTTPException(413, headers=CLOSE)
            return message

        return receive_bounded

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
            raise HTTPException(408, headers=CLOSE) from error
        finally:
            self._unread.discard(timeout)
