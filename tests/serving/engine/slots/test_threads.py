"""Threads of a step: as many as were fastest at the start, for one token and for one a slot apart."""

import time

import pytest
import torch
from transformers import LlamaConfig

from serving.engine.slots import step_threads
from serving.engine.slots.model_runner import MANY_TOKENS, ModelRunner
from serving.engine.slots.token_batch import Span, TokenBatch
from tests.serving.engine.small_models import SMALL, small_model
from tests.threads import threads_of_torch


@pytest.mark.parametrize("fastest", [{1: 1, 16: 2}, {1: 2, 16: 1}])
def test_few_and_many_tokens_have_the_threads_that_are_fastest(monkeypatch, fastest):
    def logits(self, tokens, batch, rows):
        time.sleep(0.002 if torch.get_num_threads() == fastest.get(len(tokens)) else 0.02)
        return run(self, tokens, batch, rows)

    run = ModelRunner._logits
    monkeypatch.setattr(ModelRunner, "_logits", logits)
    with threads_of_torch(2):
        runner = ModelRunner(small_model(LlamaConfig(**SMALL)), 16)
        assert (runner._few.chosen, runner._many.chosen) == (fastest[1], fastest[16])
        runner.close()


def test_more_slots_than_memory_has_can_be_offered(monkeypatch):
    """What a step of many takes is measured on few of them."""
    tokens = []
    run = ModelRunner._logits
    monkeypatch.setattr(
        ModelRunner, "_logits", lambda self, given, *rest: tokens.append(len(given)) or run(self, given, *rest)
    )
    with threads_of_torch(2):
        runner = ModelRunner(small_model(LlamaConfig(**SMALL)), 10**9)
        assert max(tokens) == MANY_TOKENS and runner.cache.held < 10**7
        runner.close()


def test_a_busy_machine_has_fewer_threads_for_all(monkeypatch):
    busy, used = [], []

    def logits(self, tokens, batch, rows):
        used.append(torch.get_num_threads())
        time.sleep(0.03 if torch.get_num_threads() == 1 else 0.06 if busy else 0.01)
        return run(self, tokens, batch, rows)

    run = ModelRunner._logits
    monkeypatch.setattr(ModelRunner, "_logits", logits)
    monkeypatch.setattr(step_threads, "APART", 5)
    with threads_of_torch(2):
        for dtype, lowered in ((torch.bfloat16, 1), (torch.float32, 2)):
            busy.clear()
            runner = ModelRunner(small_model(LlamaConfig(**SMALL), dtype=dtype), 16)
            assert runner._many.chosen == 2
            busy.append(True)
            slots = [runner.cache.reserve(64) for _ in range(16)]
            for _ in range(60):
                runner.forward([0] * 16, TokenBatch.of([(slot, 0) for slot in slots], [], runner.model.device), [0], {})
            used.clear()
            runner.forward([0] * 40, TokenBatch.of([], [Span(slots[0], 0, 40)], runner.model.device), [0], {})
            assert (runner._many.chosen, used) == (lowered, [lowered])
            runner.close()
            assert torch.get_num_threads() == 2
