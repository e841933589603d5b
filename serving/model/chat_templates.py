"""Chat templates, rendered in processes of their own with limits on time, memory and length.

A template is a program that came with the checkpoint. Jinja's sandbox keeps it from the machine, but not from looping
for ever or filling the memory, and a thread cannot be stopped from outside.
"""

import json
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from registry.errors import InvalidInput

SECONDS = 5.0
"""How long one rendering may take; honest ones take milliseconds."""
START_SECONDS = 60.0
PROCESSES = 4
"""Renderings at once."""
ROOT = Path(__file__).parents[2]
COMMAND = "from serving.model.chat_template_process import serve; serve()"


class TemplateRefused(InvalidInput):
    """A conversation that the model's chat template refuses, fails on, or does not come to an end with."""


class ChatTemplates:
    """Renders conversations. From any thread; processes begin at need and go on until they fail."""

    def __init__(self, seconds: float = SECONDS) -> None:
        self._seconds = seconds
        self._places = threading.BoundedSemaphore(PROCESSES)
        self._idle: list[_Process] = []

    def start(self) -> None:
        """Begin a process before it is needed, without waiting for it."""
        self._idle.append(_Process())

    def render(
        self,
        tokenizer: PreTrainedTokenizerBase,
        conversation: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None = None,
    ) -> str:
        """The text that ``apply_chat_template`` gives, up to where the answer begins. Raises ``TemplateRefused``."""
        request = {
            "template": tokenizer.get_chat_template(None, tools),
            "conversation": [
                {name: value for name, value in turn.items() if value is not None} for turn in conversation
            ],
            "tools": tools,
            "variables": {name: _plain(token) for name, token in tokenizer.special_tokens_map.items()},
        }
        with self._places:
            reply = self._reply(json.dumps(request).encode())
        if "refused" in reply:
            raise TemplateRefused(f"the model's chat template refuses these messages: {reply['refused']}")
        if "failed" in reply:
            raise TemplateRefused(f"the model's chat template fails on these messages ({reply['failed']})")
        return reply["text"]

    def close(self) -> None:
        while self._idle:
            self._idle.pop().end()

    def _reply(self, request: bytes) -> dict[str, str]:
        process = self._idle_process()
        try:
            reply = process.answer(request, self._seconds)
        except BaseException:
            process.end()
            raise
        self._idle.append(process)
        return reply

    def _idle_process(self) -> "_Process":
        while True:
            try:
                process = self._idle.pop()
            except IndexError:
                return _Process()
            if process.is_alive:
                return process
            process.end()


class _Process:
    """One process that renders."""

    def __init__(self) -> None:
        self._has_begun = False
        self._process = subprocess.Popen(
            [sys.executable, "-c", COMMAND],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=ROOT,
            env={**os.environ, "USE_TORCH": "0"},
        )

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def answer(self, request: bytes, seconds: float) -> dict[str, str]:
        assert self._process.stdin is not None
        if not self._has_begun:
            self._line(START_SECONDS)
            self._has_begun = True
        try:
            self._process.stdin.write(request + b"\n")
            self._process.stdin.flush()
        except OSError as error:
            raise TemplateRefused("the process that renders the model's chat template has ended; try again") from error
        reply: dict[str, str] = json.loads(self._line(seconds))
        return reply

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def _line(self, seconds: float) -> bytes:
        """The next line that it writes. Raises ``TemplateRefused`` where none comes in time, or it ends before."""
        assert self._process.stdout is not None
        output, deadline, line = self._process.stdout.fileno(), time.monotonic() + seconds, b""
        while not line.endswith(b"\n"):
            ready, _, _ = select.select([output], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise TemplateRefused(f"the model's chat template took longer than {seconds:g} s on these messages")
            part = os.read(output, 1 << 16)
            if not part:
                raise TemplateRefused("the model's chat template ended its process; it takes too much memory")
            line += part
        return line


def _plain(token: Any) -> Any:
    return [str(part) for part in token] if isinstance(token, list | tuple) else str(token)


CHAT_TEMPLATES = ChatTemplates()
"""Those of this process."""
