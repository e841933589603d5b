"""Engine interface: requests, tokens as they appear, and how a generation ended."""

import asyncio
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
from jaxtyping import Float32

from registry.counts import counted
from registry.errors import InvalidInput, TrustTraceError, Unavailable
from serving.engine.calls import Calls
from serving.engine.stats import EngineStats
from serving.engine.wakes import Reader
from serving.steering.monitor import Monitor, Reading
from serving.steering.plan import Operation, SteeringPlan

HiddenStates = list[dict[int, Float32[np.ndarray, "tokens d_model"]]]
"""Of each sequence, by layer."""
Keep = Callable[[dict[int, Float32[np.ndarray, "tokens d_model"]]], dict[int, Float32[np.ndarray, "tokens ..."]]]
"""What is kept of the hidden states of some tokens, by layer or by any other number."""

FinishReason = Literal["stop", "length", "content_filter", "cancelled", "error", "refused", "unavailable"]
"""``content_filter``: the condition of the request's monitor was met; ``refused``: the request cannot be done;
``unavailable``: the engine has stopped."""


GREEDY = 1e-5
"""Temperatures below this take the likeliest token: divided by them, logits overflow float32."""


class QueueFull(TrustTraceError):
    """As many requests wait as may."""

    def __init__(self, queue_limit: int, retry_after: float) -> None:
        taken = f"{queue_limit} requests wait already" if queue_limit else "all slots are taken"
        super().__init__(f"{taken}; try again in {math.ceil(retry_after)} s")
        self.retry_after = retry_after
        """Seconds until a place is likely to be free."""


class PromptTooLong(InvalidInput):
    """A prompt that leaves no room for a single generated token, or a text that does not fit."""

    def __init__(self, tokens: int, window: int, *, at_least: bool = False, is_answered: bool = True) -> None:
        """``at_least`` says that it was not read to its end."""
        self.length, self.window, self.is_answered = (
            f"at least {tokens}" if at_least else str(tokens),
            window,
            is_answered,
        )
        what, room = ("prompt", ", one of them for the answer") if is_answered else ("text", "")
        super().__init__(f"the {what} has {self.length} tokens and the window {window}{room}; shorten it")


class EngineStopped(Unavailable):
    """The engine admits no more requests, or ended before it could answer."""


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn, and when to stop. Raises ``InvalidInput`` for a value out of its range."""

    max_tokens: int
    temperature: float = 1.0
    """0, and anything below ``GREEDY``, takes the likeliest token."""
    top_p: float = 1.0
    """Draw from the likeliest tokens that together have this probability."""
    seed: int | None = None
    """The same seed gives the same tokens, whatever else runs; without one, they differ from call to call."""
    stop: tuple[str, ...] = ()
    """Texts before which the answer ends."""
    top_logprobs: int | None = None
    """How many of the likeliest tokens to report beside the drawn one; ``None`` reports no log-probabilities."""
    prompt_logprobs: bool = False
    """Report the log-probabilities of the prompt's own tokens too. Then ``max_tokens`` may be 0."""
    schema: Mapping[str, Any] | None = None
    """A JSON schema that the answer must follow."""
    calls: Calls | None = None
    """Calls that the answer must or may make; instead of ``schema``."""
    ignore_eos: bool = False
    """Go on past the model's end of text, for benchmarks."""

    @property
    def is_greedy(self) -> bool:
        return self.temperature < GREEDY

    def __post_init__(self) -> None:
        least = 0 if self.prompt_logprobs else 1
        _require("max_tokens", self.max_tokens, self.max_tokens >= least, f"at least {least}")
        _require("temperature", self.temperature, 0 <= self.temperature < math.inf, "a finite number from 0 up")
        _require("top_p", self.top_p, 0 < self.top_p <= 1, "over 0 and at most 1")
        _require("stop", self.stop, all(self.stop), "texts that are not empty")
        _require("top_logprobs", self.top_logprobs, self.top_logprobs is None or self.top_logprobs >= 0, "0 or more")


def _require(name: str, value: object, holds: bool, rule: str) -> None:
    if not holds:
        raise InvalidInput(f"{name} is {value!r} and must be {rule}")


@dataclass(frozen=True)
class GenerationRequest:
    prompt_tokens: tuple[int, ...]
    sampling: Sampling
    plan: SteeringPlan
    monitor: Monitor | None = None
    client: str = ""
    """Whose keys and values are read and kept for it: no client can tell by the time to the first token what another
    has asked."""

    @property
    def operations(self) -> frozenset[Operation]:
        """What an engine must be able to do for this request."""
        return self.plan.operations if self.monitor is None else self.plan.operations | {"monitor"}

    def __post_init__(self) -> None:
        _require("prompt_tokens", self.prompt_tokens, bool(self.prompt_tokens), "at least one token")


@dataclass(frozen=True)
class TokenLogprob:
    token: int
    text: str
    """The token's label: its text, or its bytes by number where it is part of a character."""
    logprob: float
    """In nats, under the model's own distribution: before temperature and top-p."""
    bytes: bytes


@dataclass(frozen=True)
class TokenEvent:
    """One generated token."""

    token: int
    text: str
    """What may now be shown: nothing while the text is part of a character or may begin a stop text."""
    logprob: float | None = None
    top: tuple[TokenLogprob, ...] = ()
    readings: tuple[Reading, ...] = ()
    """P(trustworthy) by each probe of the request's monitor, of what the token was drawn from."""
    piece: str = ""
    """What the token itself adds to the text; a character of several tokens comes with the last of them."""


@dataclass(frozen=True)
class GenerationOutcome:
    """How a generation ended, and how much of it was steered."""

    reason: FinishReason
    prompt_tokens: int
    generated_tokens: int
    """The token that ends the text included."""
    steered_prompt: int
    steered_generation: int
    error: str = ""
    """What went wrong, when the reason is ``error``, ``refused`` or ``unavailable``."""
    cached_prompt: int | None = None
    """Tokens of the prompt that were not read, since their keys and values were kept from an earlier request; ``None``
    of an engine that does not tell."""
    moved: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """Tokens of prompt and answer that each vector moved whose intervention depends on hidden states, by its reference.
    The last token of an answer is drawn and never read, so nothing moves it."""
    readings: tuple[tuple[Reading, ...], ...] = ()
    """Of each generated token, those of its ``TokenEvent``."""


@dataclass(frozen=True)
class Completion:
    text: str
    tokens: tuple[int, ...]
    events: tuple[TokenEvent, ...]
    outcome: GenerationOutcome
    prompt: tuple[TokenEvent, ...] = ()
    """The prompt's tokens, where their log-probabilities were asked for; the first has none."""


class Generation:
    """The answer to one request while it grows. One reader; from any thread, or any event loop."""

    def __init__(self, request: GenerationRequest) -> None:
        self.request = request
        self.outcome: GenerationOutcome | None = None
        """Set once the last event is there."""
        self.cancelled = False
        self.prompt: tuple[TokenEvent, ...] = ()
        """The prompt's tokens, where their log-probabilities were asked for; set before the first event or the end."""
        self._events: list[TokenEvent] = []
        self._read = 0
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._at_next: Reader | None = None
        """Awoken at the next event."""
        self._at_end: Reader | None = None
        """Awoken at the end alone."""

    def cancel(self) -> None:
        """Ask the engine to end this at its next step; what was generated stays."""
        self.cancelled = True

    def take(self, changed: asyncio.Event) -> tuple[Sequence[TokenEvent], GenerationOutcome | None]:
        """The events since the last call, and how it ended if it has. From the reader's event loop, on which
        ``changed`` is set once there is more, if there was nothing.
        """
        with self._lock:
            events, self._read = self._events[self._read :], len(self._events)
            if self.outcome is None and not events:
                self._at_next = Reader(changed, asyncio.get_running_loop())
            return events, self.outcome

    def at_end(self, ended: asyncio.Event) -> None:
        """``ended`` is set on the reader's event loop at the end, whatever it is; at once if that has come."""
        with self._lock:
            if self.outcome is None:
                self._at_end = Reader(ended, asyncio.get_running_loop())
            else:
                ended.set()

    async def completion(self) -> Completion:
        """Wait for the end, whatever it is; nothing is awoken by the tokens in between."""
        ended = asyncio.Event()
        self.at_end(ended)
        await ended.wait()
        return self._completion()

    def result(self, timeout: float | None = None) -> Completion:
        """Wait for the end. Raises ``EngineStopped`` when it failed, ``TimeoutError`` after ``timeout`` s."""
        if not self._done.wait(timeout):
            raise TimeoutError(f"no answer within {timeout} s; {counted(len(self._events), 'token')} so far")
        assert self.outcome is not None
        if self.outcome.reason in ("error", "refused", "unavailable"):
            raise EngineStopped(self.outcome.error)
        return self._completion()

    def _completion(self) -> Completion:
        assert self.outcome is not None
        events = tuple(self._events)
        text = "".join(event.text for event in events)
        return Completion(text, tuple(event.token for event in events), events, self.outcome, self.prompt)

    def add(self, event: TokenEvent) -> None:
        """For the engine: hand one event to the reader."""
        with self._lock:
            self._events.append(event)
            reader, self._at_next = self._at_next, None
        if reader is not None:
            reader.wake()

    def finish(self, outcome: GenerationOutcome) -> None:
        """For the engine: there will be no further event."""
        with self._lock:
            self.outcome = outcome
            readers = (self._at_next, self._at_end)
            self._at_next = self._at_end = None
        self._done.set()
        for reader in readers:
            if reader is not None:
                reader.wake()


class Engine(Protocol):
    """Runs one model. Every method may be called from any thread."""

    @property
    def window(self) -> int:
        """Tokens that a prompt and its answer may have together."""

    @property
    def operations(self) -> frozenset[Operation]:
        """What of steering this engine can do."""

    @property
    def problem(self) -> str:
        """Why it has stopped by itself and has to be started again; nothing while it runs."""

    def submit(self, request: GenerationRequest) -> Generation:
        """Queue a request. Raises ``QueueFull``, ``PromptTooLong``, ``EngineStopped``, or ``InvalidInput`` for tokens
        that the vocabulary lacks and for operations that the engine lacks (``require_operations``). An answer ends
        with reason ``length`` where the window is full.
        """

    def hidden_states(
        self, sequences: Sequence[Sequence[int]], layers: Sequence[int], client: str = "", keep: Keep | None = None
    ) -> Future[HiddenStates]:
        """The unsteered hidden states of token sequences, read between two steps of the generations that run, or what
        ``keep`` makes of those of each piece. Raises as ``submit`` does.
        """

    def stats(self) -> EngineStats: ...

    def drain(self, seconds: float) -> bool:
        """Admit nothing more, and wait for what runs or waits. Whether all of it ended in time."""

    def close(self) -> None:
        """Stop at the next step; what has not ended ends with reason ``cancelled``."""
