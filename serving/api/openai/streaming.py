"""Streaming: generations of one HTTP request, submitted together and cancelled when its client has left."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence

from fastapi import Request

from serving.api.errors import ApiError, DeadlineExceeded, ServiceUnavailable
from serving.engine.base import Completion, Engine, Generation, GenerationOutcome, GenerationRequest, TokenEvent


class ClientGone(ApiError):
    """Nobody is there to read the answer."""

    status, code = 499, "client_closed_request"


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
    waited: set[asyncio.Future[object]] = {answers}  # type: ignore[arg-type]
    gone = None if request is None else asyncio.create_task(_client_gone(request))
    if gone is not None:
        waited.add(gone)  # type: ignore[arg-type]
    try:
        done, _ = await asyncio.wait(waited, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if answers in done:
            ended = answers.result()
            for completion in ended:
                require_ended(completion.outcome)
            return ended
        raise ClientGone("the client closed the connection") if done else _deadline_exceeded(seconds)
    finally:
        cancel(generations)
        answers.cancel()
        if gone is not None:
            gone.cancel()


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
    return DeadlineExceeded(f"the answer took longer than {seconds:g} s (TRUSTTRACE_TIMEOUT); ask for fewer tokens")


async def _client_gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
