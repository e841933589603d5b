"""What clients are told of a vLLM that fails: a process in its place here; the real one is tests/vllm."""

import pytest

from registry.errors import InvalidInput
from serving.engine.base import EngineStopped, PromptTooLong
from serving.engine.vllm import engine as engine_module
from serving.engine.vllm.process import STOPPED, Counts
from tests.mutants import mutant
from tests.serving.engine.small_models import request, small_llama


class FailingProcess:
    """Draws one token and raises, as a vLLM whose engine core has died or that cannot run one request."""

    def __init__(self, failure, has_stopped):
        self.counts, self.failure, self.has_stopped, self.failed = Counts(), failure, has_stopped, False

    async def start(self, *_):
        return self

    async def warm_up(self): ...

    async def stop(self): ...

    def parameters(self, *_): ...

    async def generate(self, *_, **__):
        yield 1, None
        self.failed = self.has_stopped
        raise self.failure

    async def hidden_states(self, *_):
        self.failed = self.has_stopped
        raise self.failure


def told(monkeypatch, failure, has_stopped, module=engine_module):
    """How an answer that runs ends, and what it and a reading that runs are told."""
    process = FailingProcess(failure, has_stopped)
    monkeypatch.setattr(module, "VllmProcess", process)
    with module.VllmEngine(small_llama()) as engine:
        reading = engine.hidden_states([[1, 2]], [0])
        read = reading.exception(10)
        process.failed = False
        answer = engine.submit(request([1, 2]))
        with pytest.raises(EngineStopped) as raised:
            answer.result(10)
    return answer.outcome.reason, str(raised.value), read


@pytest.mark.parametrize("failure", [RuntimeError("core"), EngineStopped("vLLM ended an answer before its time")])
def test_who_runs_when_vllm_stops_is_told_what_mends_it(monkeypatch, failure):
    reason, message, read = told(monkeypatch, failure, has_stopped=True)
    assert (reason, message) == ("unavailable", STOPPED)
    assert (type(read), str(read)) == (EngineStopped, STOPPED)


@pytest.mark.parametrize(
    ("failure", "expected", "message"),
    [
        (InvalidInput("top_logprobs is 21 and may be 20"), "refused", "top_logprobs is 21 and may be 20"),
        (ValueError("secret"), "error", "vLLM failed the request (ValueError); the service's log says why"),
    ],
)
def test_a_failure_of_one_request_is_its_own(monkeypatch, failure, expected, message):
    reason, answered, read = told(monkeypatch, failure, has_stopped=False)
    assert (reason, answered) == (expected, message)
    assert str(read) == message


@pytest.mark.parametrize(
    ("passage", "replacement"),
    [
        ('"unavailable" if self.problem else "error"', '"error"'),
        ("raise self._as_told(failure) from failure", "raise"),
        ("return EngineStopped(self.problem)", "return failure"),
    ],
)
def test_a_failure_told_otherwise_is_noticed(monkeypatch, passage, replacement):
    with mutant(engine_module, passage, replacement) as changed:
        reason, message, read = told(monkeypatch, RuntimeError("core"), has_stopped=True, module=changed)
    assert (reason, message, str(read)) != ("unavailable", STOPPED, STOPPED)


def test_every_text_needs_room_for_the_token_that_vllm_draws(monkeypatch):
    process = FailingProcess(RuntimeError("core"), has_stopped=False)
    monkeypatch.setattr(engine_module, "VllmProcess", process)
    with engine_module.VllmEngine(small_llama()) as engine:
        with pytest.raises(PromptTooLong):
            engine.hidden_states([[1] * 128], [0])
        with pytest.raises(PromptTooLong):
            engine.submit(request([1] * 128, max_tokens=0, prompt_logprobs=True))
        engine.hidden_states([[1] * 127], [0]).exception(10)
