"""Chat templates, rendered in processes of their own with limits on time, memory and length.

A template is a program that came with the checkpoint. Jinja's sandbox keeps it from the machine, but not from looping
for ever or filling the memory, and a thread cannot be stopped from outside.
"""

import contextlib
import json
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from registry.errors import TrustTraceError, Unavailable, first_line
from serving.model.renderers import QUICK_SECONDS, Renderer, RendererParent, TemplateRefused

SECONDS = 5.0
"""Processor time that one rendering may take; honest ones take milliseconds."""
LONGEST = 60.0
"""Seconds by the clock that a rendering may take, and a process to begin, where the machine is starved."""
PATIENCE = 1.0
"""How long a conversation waits for slow ones until it is refused."""
PLACES = 8
"""Renderings at once."""
SHARE, SHARE_OF_SLOW = 2, 1
"""Renderings at once of one client, and of one that was slow lately where others ask too: places stay free for them."""
REMEMBERED = 60.0
"""Seconds after a slow rendering in which its client's others have the machine only while nobody else wants it, where
other clients ask too."""


class TemplateShareExceeded(TrustTraceError):
    """A client whose earlier conversations are still being rendered."""


class ChatTemplates:
    """Renders conversations, from any thread, in children of one process that begins at need.

    A client holds at most ``SHARE`` of the ``PLACES``, and one that holds none takes the place of a slow rendering. So
    conversations on which a template loops hold up the clients that sent them, and nobody else. ``seconds`` are of
    processor time and ``longest`` by the clock.
    """

    def __init__(self, seconds: float = SECONDS, longest: float = LONGEST) -> None:
        self._seconds, self._longest = seconds, longest
        self._changed = threading.Condition()
        self._rendering: list[tuple[str, Renderer]] = []
        """Renderings in progress with their clients, those that began first before the others."""
        self._idle: list[Renderer] = []
        self._newcomers = 0
        """Threads that wait for a place and whose clients hold none."""
        self._slow: dict[str, float] = {}
        """When a client last had a slow rendering."""
        self._seen: dict[str, float] = {}
        """When a client last asked."""
        self._parent: RendererParent | None = None

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

        Raises ``TemplateRefused``; ``TemplateShareExceeded`` or ``Unavailable`` where no place comes free soon or the
        machine is starved.
        """
        try:
            template = tokenizer.get_chat_template(None, tools)
        except ValueError as error:  # several by name, and none of them the default
            raise TemplateRefused(f"the model has no chat template for these messages: {first_line(error)}") from error
        request = {
            "template": template,
            "conversation": [
                {name: value for name, value in turn.items() if value is not None} for turn in conversation
            ],
            "tools": tools,
            "variables": {name: _plain(token) for name, token in tokenizer.special_tokens_map.items()},
        }
        with self._place_of(client) as child:
            line, lowered = json.dumps(request).encode(), self._gives_others_way(client)
            reply = child.answer(line, self._seconds, self._longest, lowered=lowered)
        if "refused" in reply:
            raise TemplateRefused(f"the model's chat template refuses these messages: {reply['refused']}")
        if "failed" in reply:
            raise TemplateRefused(f"the model's chat template fails on these messages ({reply['failed']})")
        return reply["text"]

    def close(self) -> None:
        """End every process, and with them the renderings in progress."""
        with self._changed:
            idle, self._idle = self._idle, []
            parent, self._parent = self._parent, None
            for _, child in self._rendering:
                child.give_way("the service is shutting down; ask another one")
        for child in idle:
            child.end()
        if parent is not None:
            parent.end()

    @contextlib.contextmanager
    def _place_of(self, client: str) -> Iterator[Renderer]:
        """A child for one rendering of ``client``, once it has a place."""
        child, reusable = self._begin(client), False
        try:
            yield child
            reusable = not child.is_lowered
        finally:
            if not reusable:
                child.end()
            with self._changed:
                self._rendering.remove((client, child))
                self._slow |= {client: time.monotonic()} if child.is_slow or child.gives_way else {}
                self._idle += [child] if reusable else []
                self._changed.notify_all()

    def _gives_others_way(self, client: str) -> bool:
        """Whether a client that was slow lately is not alone: only then it costs somebody else anything."""
        with self._changed:
            now = time.monotonic()
            since, seen = now - REMEMBERED, {**self._seen, client: now}
            self._slow, self._seen = (
                {name: moment for name, moment in moments.items() if moment > since} for moments in (self._slow, seen)
            )
            return client in self._slow and len(self._seen) > 1

    def _begin(self, client: str) -> Renderer:
        began = time.monotonic()
        with self._changed:
            share = SHARE_OF_SLOW if self._gives_others_way(client) else SHARE
            while self._has_to_wait(held := self._held(client), share):
                if not held:
                    self._make_room()
                elif time.monotonic() - began > PATIENCE:
                    self._require_hope(held, share)
                self._newcomers += not held
                self._changed.wait(QUICK_SECONDS)
                self._newcomers -= not held
            child = self._idle_child()
            self._rendering.append((client, child))
            return child

    def _has_to_wait(self, held: Sequence[Renderer], share: int) -> bool:
        """Whether the client that holds these has to wait; a place that comes free is for one that holds none."""
        taken = len(held) >= share or len(self._rendering) >= PLACES
        return taken or bool(held and self._newcomers)

    def _make_room(self) -> None:
        """End the rendering that began first of those that have no priority, unless one is being ended."""
        slow = [child for _, child in self._rendering if child.is_lowered]
        if slow and not any(child.gives_way for child in slow):
            slow[0].give_way("the conversation was rendered for long and gave way to another client's; try again")

    def _require_hope(self, held: Sequence[Renderer], share: int) -> None:
        """Raise where the places that the holder of these waits for are taken by slow renderings."""
        if len(held) >= share and all(child.is_lowered for child in held):
            raise TemplateShareExceeded(
                "this client's conversations that are still being rendered by the model's chat template hold its "
                f"{len(held)} of {PLACES} places; try again when they have ended"
            )
        if len(held) < share and all(child.is_lowered for _, child in self._rendering):
            raise Unavailable(f"{PLACES} conversations are being rendered by the chat template; try again")

    def _held(self, client: str) -> list[Renderer]:
        return [child for other, child in self._rendering if other == client]

    def _idle_child(self) -> Renderer:
        while self._idle:
            child = self._idle.pop()
            if child.is_alive:
                return child
            child.end()
        return self._new_child()

    def _new_child(self) -> Renderer:
        with self._changed:
            if self._parent is None or not self._parent.is_alive:
                self._parent = RendererParent()
            return self._parent.fork()


def _plain(token: Any) -> Any:
    return [str(part) for part in token] if isinstance(token, list | tuple) else str(token)


CHAT_TEMPLATES = ChatTemplates()
"""Those of this process."""
