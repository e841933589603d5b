"""Generations on behalf of one HTTP request: submitted together, cancelled when nobody waits for them any more."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence

from fastapi import Request

from serving.api.errors import ApiError, DeadlineExceeded, NotServing
from serving.api.openai.prompts import Tokens
from serving.engine.base import (
    Completion,
    Engine,
    Generation,
    GenerationOutcome,
    GenerationRequest,
    Sampling,
    TokenEvent,
)
from serving.steering.plan import SteeringPlan


class ClientGone(ApiError):
    """Nobody is there to read the answer."""

    status, code = 499, "client_closed_request"


class GenerationFailed(ApiError):
    status, type, code = 500, "server_error", "generation_failed"


def submit_all(engine: Engine, asked: Sequence[tuple[Tokens, Sampling, SteeringPlan]]) -> list[Generation]:
    """All of them or none: when one is refused, those before it are cancelled. Raises what ``Engine.submit`` does."""
    submitted: list[Generation] = []
    try:
        for tokens, sampling, plan in asked:
            submitted.append(engine.submit(GenerationRequest(tokens, sampling, plan)))
    except BaseException:
        cancel(submitted)
        raise
    return submitted


def cancel(generations: Sequence[Generation]) -> None:
    for one in generations:
        one.cancel()


async def completions(generations: Sequence[Generation], request: Request | None, seconds: float) -> list[Completion]:
    """Wait for all of them. Raises ``DeadlineExceeded``, ``ClientGone``, ``GenerationFailed`` or ``NotServing``."""
    answers = asyncio.ensure_future(asyncio.gather(*(one.completion() for one in generations)))
    waited: set[asyncio.Future[object]] = {answers}  # type: ignore[arg-type]
    gone = None if request is None else asyncio.create_task(_gone(request))
    if gone is not None:
        waited.add(gone)  # type: ignore[arg-type]
    try:
        done, _ = await asyncio.wait(waited, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if answers in done:
            found = answers.result()
            for one in found:
                require_ended(one.outcome)
            return found
        raise ClientGone("the client closed the connection") if done else _deadline_exceeded(seconds)
    finally:
        cancel(generations)
        answers.cancel()
        if gone is not None:
            gone.cancel()


async def events(
    generations: Sequence[Generation], seconds: float, heartbeat: float
) -> AsyncIterator[tuple[int, TokenEvent | GenerationOutcome] | None]:
    """What happens to each, as it happens, by its place; ``None`` after ``heartbeat`` seconds of silence.

    Closing the iterator cancels what still runs. Raises ``DeadlineExceeded``, ``GenerationFailed`` or ``NotServing``.
    """
    deadline = time.monotonic() + seconds
    queue: asyncio.Queue[tuple[int, TokenEvent | GenerationOutcome]] = asyncio.Queue()

    async def follow(index: int, generation: Generation) -> None:
        async for event in generation:
            queue.put_nowait((index, event))
        assert generation.outcome is not None
        queue.put_nowait((index, generation.outcome))

    followers = [asyncio.create_task(follow(index, one)) for index, one in enumerate(generations)]
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
        raise NotServing("the service is shutting down and broke off this answer; ask again")


def _deadline_exceeded(seconds: float) -> DeadlineExceeded:
    return DeadlineExceeded(f"the answer took longer than {seconds:g} s (TRUSTTRACE_TIMEOUT); ask for fewer tokens")


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
