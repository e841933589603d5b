"""Threads of a step: as many as were fastest at the start, for one token and for one a slot apart."""

import time

import pytest
import torch
from transformers import LlamaConfig

from serving.engine.slots.model_runner import ModelRunner
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
        assert (runner._few_threads, runner._step_threads) == (fastest[1], fastest[16])
        runner.close()
