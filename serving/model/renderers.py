"""Renderers: the processes in which chat templates are rendered, seen from the service.

Limits are on processor time: by the clock, a machine that is busy with other things would refuse good conversations.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from registry.errors import InvalidInput, Unavailable

QUICK_SECONDS = 0.25
"""Processor time after which a rendering is slow: it has the machine only while nobody else wants it."""
GLANCE = 0.01
"""Seconds between two looks at the processor time of a rendering, at least: what the system counts it in."""
LOWEST_PRIORITY = 19
ROOT = Path(__file__).parents[2]
COMMAND = "import sys; from serving.model.chat_template_process import serve; serve(int(sys.argv[1]))"


class TemplateRefused(InvalidInput):
    """A conversation that the model's chat template refuses, fails on, or does not come to an end with."""


class RendererParent:
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

    def fork(self) -> "Renderer":
        connection, other = socket.socketpair()
        with other:
            socket.send_fds(self._control, [b"\0"], [other.fileno()])
        return Renderer(connection)

    def end(self) -> None:
        self._control.close()
        self._process.kill()
        self._process.wait()


class Renderer:
    """One process that renders, at the other end of ``connection``."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._received = b""
        self._process_id: int | None = None
        """Known once it has begun."""
        self.is_slow = False
        """Whether it took longer than ``QUICK_SECONDS``."""
        self.is_lowered = False
        """Whether its priority was taken, which cannot be given back."""
        self.gives_way = ""
        """Why it was ended, if it was."""

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

    def answer(self, request: bytes, seconds: float, longest: float, *, lowered: bool = False) -> dict[str, str]:
        """``lowered`` takes its priority from the beginning on.

        Raises ``TemplateRefused`` where no reply comes in ``seconds`` of processor time, or the process ends before;
        ``Unavailable`` where it takes longer than ``longest`` by the clock, or has to give way.
        """
        deadline = time.monotonic() + longest
        try:
            if self._process_id is None:
                self._process_id = int(self._line(longest))
            if lowered:
                self._lower()
            self._connection.settimeout(longest)
            self._connection.sendall(request + b"\n")
            line = self._reply(seconds, deadline)
        except TimeoutError as error:
            raise Unavailable(
                f"the machine is so busy that a chat template was not rendered in {longest:g} s; try again"
            ) from error
        except OSError as error:
            if self.gives_way:
                raise Unavailable(self.gives_way) from error
            raise TemplateRefused("the model's chat template ended its process; it takes too much memory") from error
        reply: dict[str, str] = json.loads(line)
        return reply

    def give_way(self, reason: str) -> None:
        """End it in the middle of a rendering, which raises ``Unavailable`` for this reason."""
        self.gives_way = reason
        if self._process_id is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process_id, signal.SIGKILL)

    def end(self) -> None:
        if self._process_id is not None and self.is_alive:  # else the id may be another process's by now
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process_id, signal.SIGKILL)
        self._connection.close()

    def _reply(self, seconds: float, deadline: float) -> bytes:
        """The line that answers a request, within limits on the processor time and the time by the clock."""
        assert self._process_id is not None
        before, used = self._processor_seconds(), 0.0
        while True:
            left = (seconds if self.is_slow else min(seconds, QUICK_SECONDS)) - used
            try:
                return self._line(min(max(GLANCE, left), deadline - time.monotonic()))
            except TimeoutError:
                if time.monotonic() >= deadline:
                    raise
            used = self._processor_seconds() - before
            if used >= seconds:
                raise TemplateRefused(f"the model's chat template took longer than {seconds:g} s on these messages")
            if used >= QUICK_SECONDS and not self.is_slow:
                self.is_slow = True
                self._lower()

    def _lower(self) -> None:
        """Leave it what nobody else wants of the machine."""
        assert self._process_id is not None
        self.is_lowered = True
        with contextlib.suppress(ProcessLookupError):
            os.setpriority(os.PRIO_PROCESS, self._process_id, LOWEST_PRIORITY)

    def _processor_seconds(self) -> float:
        """How much of a processor it has used since it began."""
        fields = Path(f"/proc/{self._process_id}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

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
