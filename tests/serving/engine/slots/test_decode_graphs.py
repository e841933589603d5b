"""Recorded decode steps on a CPU: by a tape that, as a CUDA graph does, runs the same operations on the same memory."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import Gemma2Config, GPT2Config, LlamaConfig, Olmo3Config

from serving.engine.slots import decode_graphs, model_runner
from serving.engine.slots.decode_graphs import MOST_GRAPHS, _rounded_length
from serving.engine.slots.engine import SlotEngine
from serving.engine.slots.kernels import Kernels
from tests.serving.engine.small_models import (
    SMALL,
    VOCABULARY,
    naive_answers,
    prompts,
    request,
    small_llama,
    small_model,
)

BY_THE_HOST = ("_local_scalar_dense", "nonzero", "lift_fresh", "is_nonzero")
"""Operations that a CUDA graph cannot record: they bring numbers to the CPU, or from it."""


class Tape(TorchDispatchMode):
    """The operations of some work; ``replay`` runs them again and overwrites what they gave."""

    def __init__(self):
        super().__init__()
        self.operations = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        assert not any(name in str(function) for name in BY_THE_HOST), f"{function} cannot be recorded"
        result = function(*args, **(kwargs or {}))
        self.operations.append((function, args, kwargs or {}, result))
        return result

    def replay(self):
        for function, args, kwargs, result in self.operations:
            given = {leaf.untyped_storage().data_ptr() for leaf in tree_leaves((args, kwargs)) if torch.is_tensor(leaf)}
            held = [leaf for leaf in tree_leaves(result) if torch.is_tensor(leaf)]
            again = [leaf for leaf in tree_leaves(function(*args, **kwargs)) if torch.is_tensor(leaf)]
            for old, new in zip(held, again, strict=True):
                if old.untyped_storage().data_ptr() not in given:  # neither a view nor changed in place
                    old.copy_(new)


class Recorder:
    def __init__(self):
        self.recorded = self.replayed = 0

    def __call__(self, work):
        work()
        with Tape() as tape:
            output = work()
        self.recorded += 1

        def replay():
            self.replayed += 1
            tape.replay()
            return output

        return replay


@pytest.fixture
def recorder(monkeypatch):
    recorder = Recorder()
    monkeypatch.setattr(model_runner, "recorder_for", lambda _: recorder)
    return recorder


def answers(model, asked, slots=4):
    with SlotEngine(model, slots=slots, kernels=Kernels(cuda_graphs=True)) as running:
        generations = [running.submit(each) for each in asked]
        return [generation.result(timeout=120).tokens for generation in generations]


STEERED = ((), (3.0,), (0.0, -4.0), (), (2.0, 0.0, 5.0), (-3.0,))


def test_answers_are_those_of_the_plain_loop(recorder):
    model = small_llama()
    asked = [request(prompt, STEERED[n % len(STEERED)]) for n, prompt in enumerate(prompts(10))]
    found = answers(model, asked)
    assert found == naive_answers(model, asked, found)
    assert recorder.replayed > 3 * recorder.recorded > 0


CONFIGS = [
    GPT2Config(n_embd=32, n_layer=3, n_head=4, vocab_size=VOCABULARY, n_positions=128, initializer_range=0.3),
    Gemma2Config(**SMALL, head_dim=8, sliding_window=6),
    Olmo3Config(**SMALL, sliding_window=6, layer_types=["sliding_attention", "full_attention", "sliding_attention"]),
]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.model_type)
def test_families_with_windows_and_soft_caps_are_recorded(recorder, config):
    model = small_model(config)
    asked = [request(prompt, (3.0,) if n % 2 else (), ignore_eos=True) for n, prompt in enumerate(prompts(4))]
    found = answers(model, asked)
    assert found == naive_answers(model, asked, found)
    assert recorder.replayed > 0


def test_pools_of_several_lengths_are_recorded(recorder):
    model = small_model(LlamaConfig(**{**SMALL, "max_position_embeddings": 1024}))
    lengths = (300, 5, 250, 30)
    asked = [
        request([(7 * n + place) % VOCABULARY for place in range(length)], (2.0,) if n % 2 else (), max_tokens=16)
        for n, length in enumerate(lengths)
    ]
    found = answers(model, asked)
    assert found == naive_answers(model, asked, found)
    assert recorder.replayed > 0


def test_strength_zero_is_bit_identical(recorder):
    model = small_llama()
    with SlotEngine(model, slots=2, kernels=Kernels(cuda_graphs=True)) as running:
        ask = lambda strengths: running.submit(request([5, 6, 7], strengths, top_logprobs=5)).result(60)  # noqa: E731
        before = ask(()).events
        ask((3.0, 3.0))
        assert ask((0.0, 0.0)).events == before == ask(()).events
    assert recorder.replayed > 0


def test_steps_that_cannot_be_recorded_are_run_as_they_are(monkeypatch, caplog):
    def fails(work):
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(model_runner, "recorder_for", lambda _: fails)
    model, asked = small_llama(), [request(prompt, (3.0,)) for prompt in prompts(3)]
    found = answers(model, asked)
    assert found == naive_answers(model, asked, found)
    assert caplog.text.count("decode steps cannot be recorded and are run as they are") == 1


def test_recordings_that_give_other_logits_are_not_used(monkeypatch, caplog):
    def wrong(work):
        logits = work().clone()  # of the first step for good
        return lambda: logits

    monkeypatch.setattr(model_runner, "recorder_for", lambda _: wrong)
    model, asked = small_llama(), [request(prompt) for prompt in prompts(3)]
    found = answers(model, asked)
    assert found == naive_answers(model, asked, found)
    assert "replayed decode steps differ from the model's own and are not used" in caplog.text


def test_the_oldest_recordings_go(recorder, monkeypatch):
    monkeypatch.setattr(decode_graphs, "MOST_GRAPHS", 1)
    model = small_llama()
    asked = [request(prompt, max_tokens=6 + n) for n, prompt in enumerate(prompts(6))]
    found = answers(model, asked)
    assert found == naive_answers(model, asked, found)
    assert recorder.recorded > 1


@pytest.mark.parametrize("length, rounded", [(1, 64), (64, 64), (65, 128), (1000, 1024), (1030, 1152), (8000, 8192)])
def test_lengths_are_rounded_up_by_an_eighth_at_most(length, rounded):
    assert _rounded_length(length, 8192) == rounded
    assert _rounded_length(length, 250) == min(rounded, 250)
    assert MOST_GRAPHS > 7 * 4  # rows and lengths of the smallest pool
