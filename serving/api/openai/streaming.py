"""Streaming: generations of one HTTP request, submitted together and cancelled when its client has left."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any, TypeVar

from fastapi import Request

from serving.api.errors import ApiError, ClientGone, DeadlineExceeded, ServiceUnavailable
from serving.engine.base import (
    Completion,
    Engine,
    EngineStopped,
    Generation,
    GenerationOutcome,
    GenerationRequest,
    TokenEvent,
)

Result = TypeVar("Result")

PAUSE = 0.02
"""Seconds between pieces of a stream, at least: a piece costs the event loop the same however many tokens it has."""


class GenerationFailed(ApiError):
    status, type, code = 500, "server_error", "generation_failed"


def submit_all(engine: Engine, requests: Sequence[GenerationRequest]) -> list[Generation]:
    """All of them or none: when one is refused, those before it are cancelled. Raises what ``Engine.submit`` does."""
    submitted: list[Generation] = []
    try:
        for request in requests:
            submitted.append(engine.submit(request))
    except BaseException:
        cancel(submitted)
        raise
    return submitted


def cancel(generations: Sequence[Generation]) -> None:
    for generation in generations:
        generation.cancel()


async def completions(generations: Sequence[Generation], request: Request | None, seconds: float) -> list[Completion]:
    """Wait for all. Raises ``DeadlineExceeded``, ``ClientGone`` and what ``require_ended`` does."""
    answers = asyncio.ensure_future(asyncio.gather(*(generation.completion() for generation in generations)))
    try:
        ended = await result_for(answers, request, seconds)
    finally:
        cancel(generations)
    for generation, completion in zip(generations, ended, strict=True):
        require_ended(completion.outcome, generation.request)
    return ended


async def result_for(future: "asyncio.Future[Result]", request: Request | None, seconds: float) -> Result:
    """Wait as long as the client does, and cancel otherwise. Raises ``ClientGone`` or ``DeadlineExceeded``."""
    waited: set[asyncio.Future[Any]] = {future}
    if request is not None:
        waited.add(asyncio.create_task(_client_gone(request)))
    try:
        done, _ = await asyncio.wait(waited, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if future in done:
            return future.result()
        raise ClientGone("the client closed the connection") if done else _deadline_exceeded(seconds)
    finally:
        for other in waited:
            other.cancel()


Event = TokenEvent | GenerationOutcome
FAILED = frozenset({"error", "refused", "unavailable", "cancelled"})
"""Reasons of generations that came to no end of their own."""


async def events(
    generations: Sequence[Generation], seconds: float, heartbeat: float
) -> AsyncIterator[list[tuple[int, Event]]]:
    """The events of each, by its index: together what has happened since, the first and the last at once; nothing after
    ``heartbeat`` s of silence.

    Closing the iterator cancels the rest. Raises ``DeadlineExceeded`` and what ``require_ended`` does.
    """
    deadline, changed = time.monotonic() + seconds, asyncio.Event()
    running = dict(enumerate(generations))
    try:
        while running:
            changed.clear()
            happened, failed = _happened(running, changed)
            if happened:
                yield happened
            for generation, outcome in failed:
                require_ended(outcome, generation.request)
            patience = min(heartbeat, deadline - time.monotonic())
            if running and patience <= 0:
                raise _deadline_exceeded(seconds)
            if running and happened:
                await _pause(running.values())
            elif running and not await _is_set(changed, patience):
                yield []
    finally:
        cancel(generations)


def _happened(
    running: dict[int, Generation], changed: asyncio.Event
) -> tuple[list[tuple[int, Event]], list[tuple[Generation, GenerationOutcome]]]:
    """The events since the last call, and the outcomes of those that came to no end of their own; who has ended runs
    no more.
    """
    happened: list[tuple[int, Event]] = []
    failed: list[tuple[Generation, GenerationOutcome]] = []
    for index, generation in tuple(running.items()):
        tokens, outcome = generation.take(changed)
        happened += ((index, token) for token in tokens)
        if outcome is None:
            continue
        del running[index]
        if outcome.reason in FAILED:
            failed.append((generation, outcome))
        else:
            happened.append((index, outcome))
    return happened, failed


async def _pause(running: Iterable[Generation]) -> None:
    """Until the next piece is due, or one of them has ended."""
    ended = asyncio.Event()
    for generation in running:
        generation.at_end(ended)
    await _is_set(ended, PAUSE)


async def _is_set(changed: asyncio.Event, seconds: float) -> bool:
    """Whether it was set within so many seconds."""
    try:
        async with asyncio.timeout(seconds):
            await changed.wait()
    except TimeoutError:
        return False
    return True


def require_ended(outcome: GenerationOutcome, request: GenerationRequest) -> None:
    """Raise for a generation that came to no end of its own: ``GenerationFailed``, ``ApiError`` where it cannot be
    done, ``EngineStopped`` where the engine has stopped, ``ServiceUnavailable`` where it shuts down.
    """
    if outcome.reason == "error":
        raise GenerationFailed(outcome.error)
    if outcome.reason == "refused":
        # What cannot be done while an answer is written is its schema.
        raise ApiError(outcome.error, param="response_format" if request.sampling.calls is None else "tools")
    if outcome.reason == "unavailable":
        raise EngineStopped(outcome.error)
    if outcome.reason == "cancelled":
        raise ServiceUnavailable("the service is shutting down and broke off this answer; send it again")


def _deadline_exceeded(seconds: float) -> DeadlineExceeded:
    return DeadlineExceeded(
        f"the answer took longer than {seconds:g} s (TRUSTTRACE_TIMEOUT); send less, or ask for fewer tokens"
    )


async def _client_gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
