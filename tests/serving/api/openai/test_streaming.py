"""Events of a streamed answer: what is ready together comes together, and nothing is lost, late or after the end."""

import asyncio
import threading
import time

import pytest

from serving.api.errors import ApiError, DeadlineExceeded, ServiceUnavailable
from serving.api.openai.streaming import GenerationFailed, events
from serving.engine.base import EngineStopped, Generation, TokenEvent
from serving.engine.sequence import outcome_of
from tests.serving.engine.small_models import request


def generation(tokens=0, reason=None):
    made = Generation(request([1]))
    for token in range(tokens):
        made.add(TokenEvent(token, "a"))
    if reason is not None:
        made.finish(outcome_of(made, reason, generated=tokens, error="why"))
    return made


def read(generations, seconds=10.0, heartbeat=10.0):
    """The tokens of each batch by index, reasons for outcomes; and what was raised at the end."""

    async def run():
        batches = []
        try:
            async for happened in events(generations, seconds, heartbeat):
                batches.append([(index, getattr(event, "token", None)) for index, event in happened])
        except Exception as error:
            return batches, error
        return batches, None

    return asyncio.run(run())


def test_what_is_ready_together_comes_together():
    batches, error = read([generation(3, "stop"), generation(1, "length")])
    assert batches == [[(0, 0), (0, 1), (0, 2), (0, None), (1, 0), (1, None)]]
    assert error is None


def test_every_event_comes_once_and_in_order():
    made = [generation(), generation()]

    def generate():
        for token in range(300):
            made[token % 2].add(TokenEvent(token, "a"))
            time.sleep(0.0005 * (token % 7 == 0))
        for each in made:
            each.finish(outcome_of(each, "stop"))

    thread = threading.Thread(target=generate)
    thread.start()
    batches, error = read(made)
    thread.join()
    assert error is None and all(batches)
    for index in (0, 1):
        seen = [token for batch in batches for place, token in batch if place == index]
        assert seen == [*range(index, 300, 2), None]


def test_silence_is_told_and_ends_at_the_deadline():
    silent = generation(1)
    batches, error = read([silent], seconds=0.3, heartbeat=0.1)
    assert batches[0] == [(0, 0)] and batches[1:] and not any(batches[1:])
    assert isinstance(error, DeadlineExceeded) and silent.cancelled


def test_the_deadline_holds_while_tokens_come():
    busy = generation()
    stopped = threading.Event()

    def generate():
        while not stopped.is_set():
            busy.add(TokenEvent(0, "a"))

    thread = threading.Thread(target=generate)
    thread.start()
    try:
        _, error = read([busy], seconds=0.2)
    finally:
        stopped.set()
        thread.join()
    assert isinstance(error, DeadlineExceeded)


@pytest.mark.parametrize("reason", ["error", "refused", "unavailable", "cancelled"])
def test_a_failure_comes_after_what_preceded_it(reason):
    other = generation(1)
    batches, error = read([generation(2, reason), other])
    assert batches == [[(0, 0), (0, 1), (1, 0)]]
    kinds = {
        "error": GenerationFailed,
        "refused": ApiError,
        "unavailable": EngineStopped,
        "cancelled": ServiceUnavailable,
    }
    assert type(error) is kinds[reason]
    assert other.cancelled
