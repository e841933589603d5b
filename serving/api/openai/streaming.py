"""Streaming: generations of one HTTP request, submitted together and cancelled when its client has left."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any, TypeVar

from fastapi import Request

from serving.api.errors import ApiError, ClientGone, DeadlineExceeded, ServiceUnavailable
from serving.engine.base import Completion, Engine, Generation, GenerationOutcome, GenerationRequest, TokenEvent

Result = TypeVar("Result")


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
    """Wait for all. Raises ``DeadlineExceeded``, ``ClientGone``, ``GenerationFailed`` or ``ServiceUnavailable``."""
    answers = asyncio.ensure_future(asyncio.gather(*(generation.completion() for generation in generations)))
    try:
        ended = await result_for(answers, request, seconds)
    finally:
        cancel(generations)
    for completion in ended:
        require_ended(completion.outcome)
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


async def events(
    generations: Sequence[Generation], seconds: float, heartbeat: float
) -> AsyncIterator[tuple[int, TokenEvent | GenerationOutcome] | None]:
    """The events of each, as they happen, by its index; ``None`` after ``heartbeat`` seconds of silence.

    Closing the iterator cancels the rest. Raises ``DeadlineExceeded``, ``GenerationFailed`` or ``ServiceUnavailable``.
    """
    deadline = time.monotonic() + seconds
    queue: asyncio.Queue[tuple[int, TokenEvent | GenerationOutcome]] = asyncio.Queue()

    async def follow(index: int, generation: Generation) -> None:
        async for event in generation:
            queue.put_nowait((index, event))
        assert generation.outcome is not None
        queue.put_nowait((index, generation.outcome))

    followers = [asyncio.create_task(follow(index, generation)) for index, generation in enumerate(generations)]
    left = len(generations)
    try:
        while left:
            patience = min(heartbeat, deadline - time.monotonic())
            if patience <= 0:
                raise _deadline_exceeded(seconds)
            try:
                index, event = await asyncio.wait_for(queue.get(), patience)
            except TimeoutError:
                yield None
                continue
            if isinstance(event, GenerationOutcome):
                require_ended(event)
                left -= 1
            yield index, event
    finally:
        cancel(generations)
        for task in followers:
            task.cancel()


def require_ended(outcome: GenerationOutcome) -> None:
    """Raise unless a generation came to an end of its own."""
    if outcome.reason == "error":
        raise GenerationFailed(outcome.error)
    if outcome.reason == "cancelled":
        raise ServiceUnavailable("the service is shutting down and broke off this answer; send it again")


def _deadline_exceeded(seconds: float) -> DeadlineExceeded:
    return DeadlineExceeded(
        f"the answer took longer than {seconds:g} s (TRUSTTRACE_TIMEOUT); send less, or ask for fewer tokens"
    )


async def _client_gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
