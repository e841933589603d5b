"""Texts are scored as their probe was fitted: at the last token, or over all of them."""

import dataclasses
import shutil

import numpy as np
import pytest

from pipelines.model_io.activations import extract
from registry.checkpoints import Checkpoint
from registry.errors import InvalidInput, Mismatch
from registry.text_scoring import TextScorer
from registry.vectors import Lineage, LinearProbe
from serving.model.language_model import load

TEXTS = ["the city of Paris is in France", "you are cruel", "a letter"]


@pytest.fixture(scope="module")
def model(series_directory):
    return load(Checkpoint("mini", str(series_directory), "step_000010", 10), precision="float32")


@pytest.fixture(scope="module")
def probe(model):
    lineage = Lineage("mini", "models:/ckpt.mini/1", 10, "r", model.weights_digest, "cd", "s", "mass-mean", "r", "c", 8)
    return LinearProbe("toxicity", 1, np.random.default_rng(0).normal(size=16).astype(np.float32), 0.1, lineage)


def read_by(probe, pooling):
    return dataclasses.replace(probe, lineage=dataclasses.replace(probe.lineage, pooling=pooling))


def test_a_text_is_read_as_the_probe_was_fitted(probe, model, series_directory):
    for recorded, pooling in (("", "last"), ("last", "last"), ("mean", "mean")):
        scorer = TextScorer(read_by(probe, recorded), str(series_directory / "step_000010"))
        expected = probe.probability(extract(model, TEXTS, layers=[1], pooling=pooling).layer(1))
        np.testing.assert_allclose(scorer.probability(TEXTS), expected, rtol=1e-4)


def test_copies_in_other_formats_are_no_weights(probe, series_directory, tmp_path):
    directory = shutil.copytree(series_directory / "step_000010", tmp_path / "model")
    for name in ("consolidated.safetensors", "pytorch_model.bin", "model-00001-of-00002.safetensors"):
        (directory / name).write_bytes(b"a copy")
    expected = TextScorer(probe, str(series_directory / "step_000010")).probability(TEXTS)
    np.testing.assert_array_equal(TextScorer(probe, str(directory)).probability(TEXTS), expected)


def test_an_adapter_beside_the_model_is_refused(probe, series_directory, tmp_path):
    directory = shutil.copytree(series_directory / "step_000010", tmp_path / "model")
    (directory / "adapter_config.json").write_text("{}")
    with pytest.raises(Mismatch, match=f"{directory} holds a PEFT adapter beside the model"):
        TextScorer(probe, str(directory)).probability(TEXTS)


def test_a_probe_of_answers_scores_no_texts(probe, series_directory):
    with pytest.raises(InvalidInput, match="reads the tokens of answers after their prompts, which a text"):
        TextScorer(read_by(probe, "response"), str(series_directory / "step_000010"))
