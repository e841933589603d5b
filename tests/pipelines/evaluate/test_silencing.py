"""Silenced directions: what is taken out, and every rule by which a direction is called necessary."""

import dataclasses

import numpy as np
import pytest
import torch

from pipelines.calibrate import equal_cost
from pipelines.evaluate import silencing, text
from pipelines.evaluate.silencing import SilencedCondition, role_of
from pipelines.evaluate.suite import request_for
from pipelines.evaluate.tasks.behaviour import ANSWERS
from pipelines.model_io.continuations import written_answers
from registry.dimensions import TOXICITY
from serving.model.interventions import LayerIntervention, LayerVectors, intervening, token_parameters
from serving.model.residual_stream import recording
from tests.mutants import mutant
from tests.pipelines.evaluate.test_experiment import words_model
from tests.pipelines.evaluate.test_text import design, form_rows, row
from tests.serving.engine.small_models import served_vector


def test_the_projection_is_the_mean_from_its_layer_on():
    model, vector = words_model(), served_vector(layer=1)
    condition = SilencedCondition("silenced", "toxicity", vector, means=(0.5, -0.25))
    plan = condition.plan(model)
    assert [each.vector.vector.layer for each in plan.interventions] == [1, 2] == list(range(1, model.n_layers))
    seen = {}
    interventions = []
    for layer in (1, 2):
        vectors = LayerVectors.from_bank(plan.bank, layer, torch.device("cpu"))
        for phase in ("prompt", "last_prompt", "generation"):
            parameters = token_parameters(plan, vectors, phase)
            assert parameters is not None
        interventions.append(LayerIntervention(vectors, range(4), [parameters] * 4))
    with (
        torch.inference_mode(),
        intervening(model.network, {}, interventions),
        recording(model.network, (0, 1, 2), lambda layer, states: seen.update({layer: states[0].float().numpy()})),
    ):
        model.network(input_ids=torch.tensor([[3, 1, 4, 5]]))
    assert seen[1] @ vector.vector.direction == pytest.approx(0.5, abs=1e-4)
    assert seen[2] @ vector.vector.direction == pytest.approx(-0.25, abs=1e-4)
    assert np.ptp(seen[0] @ vector.vector.direction) > 1e-2


def test_each_layer_loses_its_own_direction():
    """After the last layer of a vector its last direction."""
    vector = served_vector(layer=(0, 1))
    plan = SilencedCondition("silenced", "toxicity", vector, means=(0.5, -0.25, 1.0)).plan(words_model())
    silenced = [each.vector.vector.single for each in plan.interventions]
    assert [(each.layer, each.projection_mean) for each in silenced] == [(0, 0.5), (1, -0.25), (2, 1.0)]
    first, second = vector.vector.directions
    for found, direction in zip(silenced, (first, second, second), strict=True):
        np.testing.assert_array_equal(found.unit, direction.unit)
    means = {layer: np.random.default_rng(layer).normal(size=32).astype(np.float32) for layer in (0, 1, 2)}
    expected = [means[0] @ first.unit, means[1] @ second.unit, means[2] @ second.unit]
    assert silencing._projections(means, vector.vector) == pytest.approx(expected, abs=1e-5)


def test_answers_are_written_without_the_direction(monkeypatch):
    monkeypatch.setattr(equal_cost, "background_prose", lambda: ("w1 w2 w3",) * 20)
    model = words_model()
    *_, given, task = design((), 2)
    conditions = list(silencing.silenced_conditions(model, task, given.subjects[0], 2, 0))
    assert [each.kind for each in conditions] == ["silenced", "silenced random", "silenced random"]
    assert [each.source.split()[0] for each in conditions[1:]] == ["isotropic", "covariance-matched"]
    assert [len(each.means) for each in conditions] == [2, 2, 2]
    plan = conditions[0].plan(model)
    (silenced,) = written_answers(model, [[request_for(model, prompt, task, plan) for prompt in task.prompts]])
    (unsteered,) = silencing.continue_prompts(model, [task], None)
    assert silenced != unsteered
    assert any(answer.strip() for answer in silenced.texts)
    nothing = dataclasses.replace(task, prompts=())
    assert list(silencing.silenced_conditions(model, nothing, given.subjects[0], 2, 0)) == []


def test_controls_are_silenced_beyond_chance_only(monkeypatch):
    monkeypatch.setattr(equal_cost, "background_prose", lambda: ("w1 w2 w3",) * 20)
    monkeypatch.setattr(text, "DRAWN_AT_ONCE", 2)
    model = words_model()
    _, rows, _, given, task = design((), 5)
    done = []

    def kinds():
        silenced = given.silenced_rows(model, [task], rows, lambda: done.append(1))
        found = list(silenced)
        assert {each.measurement.metric for each in found} == {ANSWERS}
        return [each.condition.kind for each in found]

    assert kinds() == ["silenced"]
    monkeypatch.setattr(text, "is_beyond_chance", lambda *_: True)
    assert kinds() == ["silenced", *["silenced random"] * 2]  # nothing changed, so the first lot did as much
    monkeypatch.setattr(text, "any_as_far", lambda *_: False)
    assert kinds() == ["silenced", *["silenced random"] * 5]
    assert len(done) == 1 + 3 + 6


def silenced(module=silencing, change=0.2, high=None, controls=(0.1,) * 20, p=0.01):
    drawn = tuple(row("silenced random", each) for each in controls)
    return module.Silencing(row("silenced", change, high), drawn, p)


NECESSARY = {
    "all rules are met": (dict(), True),
    "it falls": (dict(change=-0.2, controls=(-0.1,) * 20), True),
    "random directions change it the other way": (dict(controls=(-0.3,) * 20), True),
    "it falls and random directions rise": (dict(change=-0.2, controls=(0.3,) * 20), True),
    "p is .05": (dict(p=0.05), False),
    "the interval reaches 0 from above": (dict(change=0.05, controls=(0.01,) * 20), False),
    "the interval reaches 0 from below": (dict(change=-0.2, high=0.0, controls=(-0.1,) * 20), False),
    "a random direction does as much": (dict(controls=(*(0.1,) * 19, 0.2)), False),
    "a random direction lowers it as much": (dict(change=-0.2, controls=(*(-0.1,) * 19, -0.2)), False),
    "too few random directions": (dict(controls=(0.1,) * 19), False),
    "no random direction": (dict(controls=()), False),
}


def check_table(module=silencing):
    for name, (case, necessary) in NECESSARY.items():
        assert silenced(module, **case).is_necessary == necessary, name
    roles = [module.role_of(works, necessary) for works in (False, True) for necessary in (False, True)]
    assert roles == ["reads only", "necessary", "sufficient", "sufficient and necessary"]


def test_every_rule_of_necessity_decides():
    check_table()
    assert silenced(controls=(0.1, 0.3, 0.1)).random_p == 1 / 2
    assert silenced().random_p == 1 / 21


MUTANTS = {
    "without p": ("p < ALPHA and (change", "(change"),
    "without the interval": (" and (change.low > 0 or change.high < 0)", " or change.low > 9"),
    "only a rise": ("(change.low > 0 or change.high < 0)", "change.low > 0"),
    "without random directions": (" and self.random_p < ALPHA", ""),
    "either way alike": ("if change > 0 else other <= change", ""),
    "equal is beyond": ("return other >= change", "return other > change"),
    "equal is beyond, falling": ("else other <= change", "else other < change"),
    "roles are exchanged": (
        '"necessary" if is_necessary else "reads only"',
        '"reads only" if is_necessary else "necessary"',
    ),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_the_table_tells_a_mutant_from_necessity(name):
    with mutant(silencing, *MUTANTS[name]) as changed, pytest.raises(AssertionError):
        check_table(changed)


def test_silenced_p_values_are_adjusted_and_the_verdict_holds_them():
    names = ("toxicity", "privacy")
    rows = []
    for name in names:
        rows += [row(kind, change, p=0.02, dimension=name) for kind, change in (("base", 0.0), ("vector", -0.2))]
        rows += [*form_rows("base", 10.0, name), *form_rows("vector", 10.0, name)]
        rows += [row("silenced", 0.2, p=0.02, dimension=name)]
        rows += [row("silenced random", 0.1, dimension=name)] * 20
    results = text.text_results(rows, dict.fromkeys(names, 1.0))
    assert [each.silencing.p for each in results] == pytest.approx([0.04] * 2)
    assert [each.role for each in results] == ["necessary"] * 2  # no random direction of equal cost: it does not work
    verdict = results[0].to_verdict("run")
    assert (verdict.role, verdict.silenced_change, verdict.silenced_random_directions) == ("necessary", 0.2, 20)
    assert type(verdict).from_json(verdict.to_json()) == verdict
    bare = dataclasses.replace(results[0], silencing=None).to_verdict("run")
    assert bare.role == "" and bare.silenced is None


def test_dimension_of_the_condition_is_the_subjects():
    condition = SilencedCondition("silenced", TOXICITY.name, served_vector(), source="steer.small.toxicity/1")
    assert condition.name == "toxicity silenced steer.small.toxicity/1" and condition.scope == "behaviour"
    assert role_of(True, False) == "sufficient"
