"""Random directions whose cost is that of a vector."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from pipelines.calibrate import equal_cost as calibrate_equal_cost
from pipelines.calibrate.equal_cost import LEAST_COST
from pipelines.evaluate import equal_cost
from pipelines.evaluate.conditions import Subject, live
from pipelines.model_io.activations import extract
from pipelines.model_io.continuations import constant_plan, continuations
from pipelines.model_io.likelihoods import likelihoods
from registry.dimensions import TOXICITY
from serving.engine.base import Sampling
from serving.model.language_model import load
from serving.model.sources import find_series
from tests.mutants import mutant


@pytest.fixture(scope="module")
def model(series_directory):
    """One that is sure of what it writes: to a flat network no text is likelier than another, and steering is free."""
    model = load(find_series(str(series_directory)).checkpoints[-1], precision="float32")
    model.network.base_model.norm.weight.data *= 20
    return model


@pytest.fixture(scope="module")
def prose(model):
    """Its own."""
    beginnings = [f"{first} {second}" for first in ("the", "a", "you", "Paris") for second in ("city", "letter", "is")]
    written = continuations(model, beginnings, Sampling(6, temperature=0.0))
    return tuple(f"{beginning} {text}" for beginning, text in zip(beginnings, written, strict=True))


def subject_of(model, strength):
    offset = torch.from_numpy(np.random.default_rng(5).normal(size=model.d_model).astype(np.float32))
    (vector,) = constant_plan(model, {1: offset}).bank.vectors
    return Subject(TOXICITY, vector, strength)


def conditions(model, prose, module=equal_cost, strength=0.3, count=4):
    subject = subject_of(model, strength)
    return list(
        module.equal_cost_conditions(subject, module.ProseCost(model, prose), states(model, prose, 1), count, 0)
    )


def states(model, prose, *layers):
    read = extract(model, prose, layers=layers, pooling="mean")
    return {layer: read.layer(layer) for layer in layers}


def cost(model, prose, offsets):
    return math.log(likelihoods(model, prose, offsets).perplexity / likelihoods(model, prose).perplexity)


def test_every_condition_costs_what_the_vector_does(model, prose):
    subject, drawn = subject_of(model, 0.3), conditions(model, prose)
    wanted = cost(model, prose, {1: torch.from_numpy(subject.champion.vector.offset(0.3))})
    assert wanted > 2 * LEAST_COST
    assert [condition.source for condition in drawn] == [
        *("isotropic 0", "covariance-matched 1", "isotropic 2", "covariance-matched 3")
    ]
    for condition in drawn:
        assert cost(model, prose, condition.offsets()) == pytest.approx(wanted, rel=0.11)
        assert math.log(condition.perplexity_ratio) == pytest.approx(cost(model, prose, condition.offsets()), rel=1e-3)
        assert condition.vector.layers == (1,)
    units = np.array([condition.vector.vector.direction for condition in drawn])
    assert np.abs(units @ units.T - np.eye(4)).max() < 0.99


def test_a_vector_of_several_layers_has_controls_of_its_layers(model, prose):
    subject = subject_of(model, 0.3)
    first, drawn = subject.champion.vector.single, np.random.default_rng(6).normal(size=model.d_model)
    unit = (drawn / np.linalg.norm(drawn)).astype(np.float32)
    second = dataclasses.replace(first, layer=2, unit=unit, scale=0.5 * first.scale)
    vector = dataclasses.replace(subject.champion.vector, directions=(first, second))
    champion = live(vector, subject.champion.registered, "several")
    subject = Subject(TOXICITY, champion, 0.3)
    prose_cost = equal_cost.ProseCost(model, prose)
    controls = list(equal_cost.equal_cost_conditions(subject, prose_cost, states(model, prose, 1, 2), 2, 0))
    offsets = {layer: torch.from_numpy(offset) for layer, offset in vector.offsets(0.3).items()}
    wanted = cost(model, prose, offsets)
    assert equal_cost.vector_cost(subject, equal_cost.ProseCost(model, prose)) == pytest.approx(wanted)
    for condition in controls:
        assert condition.vector.layers == (1, 2)
        assert [each.scale for each in condition.vector.vector.directions] == [first.scale, second.scale]
        assert cost(model, prose, condition.offsets()) == pytest.approx(wanted, rel=0.11)


def test_beside_a_vector_that_costs_nothing_they_cost_a_percent(model, prose):
    drawn = conditions(model, prose, strength=1e-3, count=2)
    assert [math.log(condition.perplexity_ratio) for condition in drawn] == pytest.approx([LEAST_COST] * 2, rel=0.11)


MUTANTS = {
    "as long as the vector": ("version, found)", "version, strength)"),
    "no least cost": ("vector_cost(subject, cost), LEAST_COST)", "vector_cost(subject, cost), 0.0)"),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_draws_other_conditions(model, prose, name):
    strength = 1e-3 if name == "no least cost" else 0.3
    kept = [(each.strength, each.source) for each in conditions(model, prose, strength=strength, count=2)]
    with mutant(equal_cost, *MUTANTS[name]) as changed:
        drawn = conditions(model, prose, changed, strength=strength, count=2)
        assert [(each.strength, each.source) for each in drawn] != kept


def test_directions_of_one_kind_alone_are_other_conditions(model, prose, monkeypatch):
    kept = [(each.strength, each.source) for each in conditions(model, prose, count=2)]
    one_kind = ('"covariance-matched" if number % 2 else', '"isotropic" if number % 2 else')
    with mutant(calibrate_equal_cost, *one_kind) as changed:
        monkeypatch.setattr(equal_cost, "drawn_directions", changed.drawn_directions)
        assert [(each.strength, each.source) for each in conditions(model, prose, count=2)] != kept
