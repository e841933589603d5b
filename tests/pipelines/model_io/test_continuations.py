"""Continuations of a tiny model."""

import numpy as np
import pytest
import torch
from transformers import MambaConfig

from pipelines.model_io.continuations import (
    constant_plan,
    continuations,
    continuations_of_settings,
    require_writing,
)
from registry.errors import Mismatch
from serving.engine.base import Sampling
from serving.model.language_model import load
from serving.model.residual_stream import steering
from serving.model.sources import find_series
from serving.steering.plan import PHASES
from tests.serving.engine.small_models import VOCABULARY, small_model

PROMPTS = ("the city", "you are", "a letter of Paris is", "kind", "the city of")


@pytest.fixture(scope="module")
def model(series_directory):
    return load(find_series(str(series_directory)).checkpoints[-1], precision="float32")


def likeliest(model, prompt, count, offsets):
    tokens = model.tokenizer(prompt)["input_ids"]
    with torch.inference_mode(), steering(model.network, offsets):
        for _ in range(count):
            tokens = [*tokens, int(model.network(torch.tensor([tokens])).logits[0, -1].argmax())]
    return model.tokenizer.decode(tokens[-count:], skip_special_tokens=True)


@pytest.mark.parametrize("length", [0.0, 3.0])
def test_every_token_is_the_likeliest_under_the_offset(model, length):
    rng = np.random.default_rng(3)
    offsets = {1: torch.tensor(length * rng.normal(size=model.d_model).astype(np.float32))} if length else {}
    written = continuations(model, PROMPTS, Sampling(4, temperature=0.0), offsets)
    expected = [likeliest(model, prompt, 4, offsets) for prompt in PROMPTS]
    assert [text.split() for text in written] == [text.split() for text in expected]


def test_settings_share_an_engine_and_answer_as_alone(model):
    offsets = {1: torch.full((model.d_model,), 2.0)}
    done, sampling = [], Sampling(5, seed=3)
    together = continuations_of_settings(model, PROMPTS, sampling, [{}, offsets, {}], lambda: done.append(1))
    alone = [continuations(model, PROMPTS, sampling, given) for given in ({}, offsets)]
    assert [answers.texts for answers in together] == [*alone, alone[0]]
    assert [set(map(len, answers.tokens)) for answers in together] == [{5}] * 3
    assert alone[0] != alone[1]
    assert len(done) == 3


def test_samples_depend_on_the_seed_alone(model):
    first, again, other = (continuations(model, PROMPTS, Sampling(6, seed=seed)) for seed in (1, 1, 2))
    assert first == again != other
    assert len(set(continuations(model, ["the city"] * 20, Sampling(6)))) > 5


def test_a_sample_does_not_depend_on_its_batch(model):
    texts = continuations(model, [*PROMPTS, "kind"] * 8, Sampling(6, seed=1))
    assert continuations(model, ["kind"] * 2, Sampling(6, seed=1)) == (texts[3], texts[5])


def test_an_offset_of_no_length_steers_nothing(model):
    plan = constant_plan(model, {0: torch.zeros(model.d_model), 1: torch.ones(model.d_model)})
    assert plan.layers == (1,)
    assert all(plan.offset(1, phase) == pytest.approx(1.0) for phase in PHASES)


def test_what_is_left_without_an_engine_is_said(model):
    require_writing(model)
    mamba = small_model(MambaConfig(hidden_size=32, num_hidden_layers=2, vocab_size=VOCABULARY))
    with pytest.raises(Mismatch, match=r"mamba models .*can be probed and calibrated by its statements.*vllm"):
        require_writing(mamba)
