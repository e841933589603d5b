import dataclasses
import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
import torch
from safetensors.torch import load_file

from pipelines.pretrain.options import SeriesConfig, TrainingConfig
from pipelines.pretrain.series import ensure_series, loss_curve
from pipelines.pretrain.trainer import RESUME
from registry.errors import InvalidInput
from serving.model.language_model import load
from serving.model.sources import find_series

TEXT = "\n\n".join(
    f"The cat number {number} sat on the mat. It is a good cat, and cat {number} is kind." for number in range(80)
)


class Killed(Exception):
    pass


@pytest.fixture
def config(tmp_path, cache):
    (tmp_path / "corpus.txt").write_text(TEXT)
    training = TrainingConfig(
        d_model=32, n_layers=2, vocabulary=300, sequence_tokens=16, batch_sequences=4, steps=40, warmup_steps=5
    )
    return SeriesConfig(training=training, corpus=str(tmp_path / "corpus.txt"))


def weights(directory, step):
    return load_file(directory / f"step_{step:06d}" / "model.safetensors")


def test_it_learns_and_every_checkpoint_loads(config):
    directory = ensure_series(config)
    losses = [record.loss for record in loss_curve(directory)]
    assert len(losses) == 40
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])
    series = find_series(str(directory), name="tiny")
    assert [checkpoint.step for checkpoint in series] == [0, 8, 12, 16, 24, 32, 40]
    assert load(series.checkpoints[-1]).n_layers == 2
    tokens = load(series.checkpoints[0]).tokenizer("The cat")["input_ids"]
    assert tokens[0] == 0  # statements start as documents do


def test_a_corpus_that_fills_no_batch_is_refused(config, tmp_path):
    (tmp_path / "corpus.txt").write_text("The cat sat on the mat.")
    with pytest.raises(InvalidInput, match="tokens and one optimiser step reads 65; give more text"):
        ensure_series(config)


def test_a_series_is_trained_once(config):
    directory = ensure_series(config)

    def never(_):
        raise AssertionError("trained again")

    assert ensure_series(config, never) == directory


def test_a_killed_training_ends_with_the_same_weights(config, monkeypatch, tmp_path):
    whole = {step: weights(ensure_series(config), step) for step in (8, 32, 40)}
    monkeypatch.setenv("TRUSTTRACE_CACHE", str(tmp_path / "other"))
    steps = []

    def kill_at_35(record):
        steps.append(record.step)
        if record.step == 35:
            raise Killed

    with pytest.raises(Killed):
        ensure_series(config, kill_at_35)
    resumed = []
    directory = ensure_series(config, lambda record: resumed.append(record.step))
    assert resumed[0] == 33  # after the last checkpoint, not from the start
    for step, expected in whole.items():
        for name, tensor in weights(directory, step).items():
            assert torch.equal(tensor, expected[name])
    assert [record.step for record in loss_curve(directory)] == list(range(1, 41))


def test_a_kill_before_the_state_resumes_one_back(config, monkeypatch, tmp_path):
    whole = weights(ensure_series(config), 40)
    monkeypatch.setenv("TRUSTTRACE_CACHE", str(tmp_path / "other"))
    replace, states = os.replace, []

    def kill_at_the_third_state(source, target):
        if target.name == RESUME:
            states.append(target)
        if len(states) == 3:
            raise Killed
        replace(source, target)

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(os, "replace", kill_at_the_third_state)
        ensure_series(config)
    resumed = []
    directory = ensure_series(config, lambda record: resumed.append(record.step))
    assert resumed[0] == 9
    assert all(torch.equal(tensor, whole[name]) for name, tensor in weights(directory, 40).items())


def test_two_that_ask_at_once_train_it_once(config):
    steps = []
    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(ensure_series, config, lambda record: steps.append(record.step)) for _ in range(2)]
        assert asked[0].result() == asked[1].result()
    assert len(steps) == 40


def test_where_bfloat16_is_emulated_it_trains_in_float32(config, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    monkeypatch.setattr(torch, "autocast", partial(_only_if_disabled, torch.autocast))
    assert (ensure_series(config) / "step_000040").is_dir()


def _only_if_disabled(autocast, *arguments, enabled=True):
    assert not enabled
    return autocast(*arguments, enabled=enabled)


def test_seed_and_corpus_and_configuration_each_name_another_series(config, tmp_path):
    keys = {config.key}
    for change in ({"seed": 1}, {"steps": 41}):
        keys.add(dataclasses.replace(config, training=dataclasses.replace(config.training, **change)).key)
    (tmp_path / "corpus.txt").write_text(TEXT + " more")
    keys.add(config.key)
    assert len(keys) == 4


def test_a_corpus_that_is_not_there_is_refused(config):
    with pytest.raises(InvalidInput, match="does not exist"):
        ensure_series(dataclasses.replace(config, corpus="/nowhere"))


def test_the_default_checkpoints_are_dense_early():
    steps = TrainingConfig().checkpoint_steps
    assert steps == (0, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2000)
    assert sum(0 < step <= TrainingConfig().warmup_steps for step in steps) == 8
    assert TrainingConfig(steps=40).checkpoint_steps == (0, 8, 12, 16, 24, 32, 40)


@pytest.mark.parametrize("steps", [0, -1])
def test_a_series_without_a_step_is_refused(steps):
    with pytest.raises(InvalidInput, match=rf"`steps` is {steps}; .*, such as 2000"):
        TrainingConfig(steps=steps)
