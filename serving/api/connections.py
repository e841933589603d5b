"""Connections: HTTP/1.1 for clients that close their side once they have asked, and wait for the answer all the same.

By TCP that looks as if they had left, and uvicorn takes it so. The two differ by what becomes of something that is
sent: who has left refuses it. Until the answer begins that is `100 Continue`, which every client of HTTP/1.1 passes
over, and afterwards the answer itself.
"""

import json

import h11
from uvicorn.protocols.http.h11_impl import DEFAULT_MAX_INCOMPLETE_EVENT_SIZE, STATUS_PHRASES, H11Protocol

from serving.api.errors import http_envelope

UNREADABLE = (
    "this cannot be read as HTTP/1.1; look at its first line and its headers, which may have "
    f"{DEFAULT_MAX_INCOMPLETE_EVENT_SIZE:,} bytes together, and at the length of its body"
)
FIRST, LAST = 0.1, 1.0
"""Seconds until something is sent, which double up to the last. What the first is answered by, the second one shows."""


class HalfClosableProtocol(H11Protocol):  # type: ignore[misc]
    """uvicorn's, but that a client may close its side of the connection, and that errors are in the one envelope."""

    _half_closed = False

    def eof_received(self) -> bool | None:
        if self.scheme == "https" or not self._owes_an_answer():
            return None
        if not self._half_closed:
            self._half_closed = True
            self.loop.call_later(FIRST, self._ask, FIRST)
        return True

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._half_closed and not self._owes_an_answer():
            self.transport.close()

    def send_400_response(self, _msg: str) -> None:
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):  # else the answer to the request has begun
            body = json.dumps(http_envelope(400, UNREADABLE, "", "")).encode()
            headers = {"content-type": "application/json", "content-length": str(len(body)), "connection": "close"}
            start = h11.Response(status_code=400, headers=[*headers.items()], reason=STATUS_PHRASES[400])
            for event in (start, h11.Data(data=body), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _owes_an_answer(self) -> bool:
        """Whether a request has come whole and not been answered; HTTP/1.0 knows no `100 Continue`."""
        cycle = self.cycle
        if cycle is None or cycle.response_complete or cycle.more_body:
            return False
        return str(cycle.scope["http_version"]) == "1.1"

    def _ask(self, waited: float) -> None:
        if self.transport.is_closing():
            return
        if self.conn.our_state is h11.SEND_RESPONSE:
            asking = h11.InformationalResponse(status_code=100, headers=[], reason="Continue")
            self.transport.write(self.conn.send(asking) or b"")
        wait = min(2 * waited, LAST)
        self.loop.call_later(wait, self._ask, wait)
