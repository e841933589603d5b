"""Chat templates, rendered in processes of their own with limits on time, memory and length.

A template is a program that came with the checkpoint. Jinja's sandbox keeps it from the machine, but not from looping
for ever or filling the memory, and a thread cannot be stopped from outside.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from registry.errors import InvalidInput, TrustTraceError, Unavailable

SECONDS = 5.0
"""How long one rendering may take; honest ones take milliseconds."""
QUICK_SECONDS = 0.25
"""After this long a rendering has the machine only while nobody else wants it."""
PATIENCE = 1.0
"""How long a conversation may wait until its rendering begins."""
START_SECONDS = 60.0
PLACES = 8
"""Renderings at once."""
SHARE = 2
"""Renderings at once of one client."""
LOWEST_PRIORITY = 19
ROOT = Path(__file__).parents[2]
COMMAND = "import sys; from serving.model.chat_template_process import serve; serve(int(sys.argv[1]))"


class TemplateRefused(InvalidInput):
    """A conversation that the model's chat template refuses, fails on, or does not come to an end with."""


class TemplateShareExceeded(TrustTraceError):
    """A client whose earlier conversations are still being rendered."""


class ChatTemplates:
    """Renders conversations, from any thread, in children of one process that begins at need.

    A client holds at most ``SHARE`` of the ``PLACES``, so that conversations on which a template loops hold up the
    client that sent them, and nobody else.
    """

    def __init__(self, seconds: float = SECONDS) -> None:
        self._seconds = seconds
        self._changed = threading.Condition()
        self._rendering: Counter[str] = Counter()
        """Renderings in progress by client."""
        self._idle: list[_Child] = []
        self._parent: _Parent | None = None

    def start(self) -> None:
        """Begin the process before it is needed, without waiting for it."""
        child = self._new_child()
        with self._changed:
            self._idle.append(child)

    def render(
        self,
        tokenizer: PreTrainedTokenizerBase,
        conversation: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None = None,
        client: str = "",
    ) -> str:
        """The text that ``apply_chat_template`` gives, up to where the answer begins.

        Raises ``TemplateRefused``; ``TemplateShareExceeded`` or ``Unavailable`` where no place comes free soon.
        """
        request = {
            "template": tokenizer.get_chat_template(None, tools),
            "conversation": [
                {name: value for name, value in turn.items() if value is not None} for turn in conversation
            ],
            "tools": tools,
            "variables": {name: _plain(token) for name, token in tokenizer.special_tokens_map.items()},
        }
        with self._place_of(client):
            reply = self._reply(json.dumps(request).encode())
        if "refused" in reply:
            raise TemplateRefused(f"the model's chat template refuses these messages: {reply['refused']}")
        if "failed" in reply:
            raise TemplateRefused(f"the model's chat template fails on these messages ({reply['failed']})")
        return reply["text"]

    def close(self) -> None:
        with self._changed:
            idle, self._idle = self._idle, []
            parent, self._parent = self._parent, None
        for child in idle:
            child.end()
        if parent is not None:
            parent.end()

    @contextlib.contextmanager
    def _place_of(self, client: str) -> Iterator[None]:
        with self._changed:
            if not self._changed.wait_for(lambda: self._has_place(client), PATIENCE):
                if self._rendering[client] < SHARE:
                    raise Unavailable(f"{PLACES} conversations are being rendered by the chat template; try again")
                raise TemplateShareExceeded(
                    f"{SHARE} conversations of this client are still being rendered by the model's chat template; "
                    "try again when they have ended"
                )
            self._rendering[client] += 1
        try:
            yield
        finally:
            with self._changed:
                self._rendering -= Counter({client: 1})  # which leaves out those at zero
                self._changed.notify_all()

    def _has_place(self, client: str) -> bool:
        return self._rendering[client] < SHARE and self._rendering.total() < PLACES

    def _reply(self, request: bytes) -> dict[str, str]:
        child = self._idle_child()
        try:
            reply = child.answer(request, self._seconds)
        except BaseException:
            child.end()
            raise
        if child.is_slow:
            child.end()
        else:
            with self._changed:
                self._idle.append(child)
        return reply

    def _idle_child(self) -> "_Child":
        while True:
            with self._changed:
                child = self._idle.pop() if self._idle else None
            if child is None:
                return self._new_child()
            if child.is_alive:
                return child
            child.end()

    def _new_child(self) -> "_Child":
        with self._changed:
            if self._parent is None or not self._parent.is_alive:
                self._parent = _Parent()
            return self._parent.fork()


class _Parent:
    """The process that children are forked from, so that one that was killed is replaced in milliseconds."""

    def __init__(self) -> None:
        self._control, other = socket.socketpair()
        with other:
            self._process = subprocess.Popen(
                [sys.executable, "-c", COMMAND, str(other.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd=ROOT,
                env={**os.environ, "USE_TORCH": "0"},
                pass_fds=[other.fileno()],
            )

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def fork(self) -> "_Child":
        connection, other = socket.socketpair()
        with other:
            socket.send_fds(self._control, [b"\0"], [other.fileno()])
        return _Child(connection)

    def end(self) -> None:
        self._control.close()
        self._process.kill()
        self._process.wait()


class _Child:
    """One process that renders, at the other end of ``connection``."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._received = b""
        self._process_id: int | None = None
        """Known once it has begun."""
        self.is_slow = False
        """Whether its priority was taken, which cannot be given back."""

    @property
    def is_alive(self) -> bool:
        """Whether it goes on listening; while idle it has nothing to say but its process id."""
        if self._process_id is None:
            return True
        self._connection.settimeout(0)
        try:
            return bool(self._connection.recv(1, socket.MSG_PEEK))
        except BlockingIOError:
            return True
        except OSError:
            return False

    def answer(self, request: bytes, seconds: float) -> dict[str, str]:
        """Raises ``TemplateRefused`` where no reply comes in time, or the process ends before."""
        try:
            if self._process_id is None:
                self._process_id = int(self._line(START_SECONDS))
            self._connection.settimeout(seconds)
            began = time.monotonic()
            self._connection.sendall(request + b"\n")
            try:
                line = self._line(min(QUICK_SECONDS, seconds))
            except TimeoutError:
                self.is_slow = True
                os.setpriority(os.PRIO_PROCESS, self._process_id, LOWEST_PRIORITY)
                line = self._line(began + seconds - time.monotonic())
        except TimeoutError as error:
            raise TemplateRefused(
                f"the model's chat template took longer than {seconds:g} s on these messages"
            ) from error
        except OSError as error:
            raise TemplateRefused("the model's chat template ended its process; it takes too much memory") from error
        reply: dict[str, str] = json.loads(line)
        return reply

    def end(self) -> None:
        if self._process_id is not None and self.is_alive:  # else the id may be another process's by now
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process_id, signal.SIGKILL)
        self._connection.close()

    def _line(self, seconds: float) -> bytes:
        """The next line that it writes. Raises ``TimeoutError``, or ``ConnectionError`` where it has ended."""
        deadline = time.monotonic() + seconds
        while not self._received.endswith(b"\n"):
            self._connection.settimeout(max(0.001, deadline - time.monotonic()))
            part = self._connection.recv(1 << 16)
            if not part:
                raise ConnectionError("the process has ended")
            self._received += part
        line, self._received = self._received, b""
        return line


def _plain(token: Any) -> Any:
    return [str(part) for part in token] if isinstance(token, list | tuple) else str(token)


CHAT_TEMPLATES = ChatTemplates()
"""Those of this process."""
