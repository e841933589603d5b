"""The verdict of probing: what is above both controls and what becomes champion, and a mutant of every rule."""

from types import SimpleNamespace

import numpy as np
import pytest

from pipelines.estimators import nested_selection, phases
from pipelines.estimators.estimate import Estimate, GroupBootstrap
from pipelines.probe import experiment
from tests.mutants import mutant


def near(value):
    return Estimate(value, value - 0.05, value + 0.05, 100)


ABOVE = (
    (near(0.9), near(0.5), near(0.6), True),
    (near(0.9), near(0.85), near(0.6), False),
    (near(0.9), near(0.5), near(0.85), False),
    (near(0.9), near(0.81), near(0.6), False),
)


def above(module):
    found = []
    for accuracy, initial, floor, _ in ABOVE:
        selection = SimpleNamespace(
            best={"toxicity": SimpleNamespace(accuracy=accuracy)},
            initial={"toxicity": SimpleNamespace(accuracy=initial)},
        )
        found.append(module._is_above_controls("toxicity", SimpleNamespace(ngram={None: floor}), selection))
    return found


def found(step, validation, dimension="toxicity", weights=None, registered=True):
    result = SimpleNamespace(
        dimension=dimension,
        checkpoint=f"step {step}",
        weights_digest=weights or str(step),
        score=lambda _layer: SimpleNamespace(validation_accuracy=validation),
    )
    uri = f"models:/steer.mini.{dimension}/{step}" if registered else None
    return experiment.Found(result, 1, SimpleNamespace(uri=uri) if registered else None)


SWEEP = (
    found(1, 0.7),
    found(2, 0.9),
    found(3, 0.9),
    found(4, 0.8),
    found(5, 0.9, weights="2"),
    found(6, 0.99, registered=False),
    found(1, 0.6, dimension="lexical"),
)


def champions(module):
    module.promote_champion = lambda vector, *_: vector
    floors = {name: SimpleNamespace(is_lexical=name == "lexical") for name in ("toxicity", "lexical")}
    best = module._promote(SWEEP, floors, SimpleNamespace(best={"toxicity": None, "lexical": None}))
    return {name: unit.vector.uri for name, unit in best.items()}


def decided(module):
    return above(module), champions(module)


DECIDED = ([case[-1] for case in ABOVE], {"toxicity": "models:/steer.mini.toxicity/3"})
MUTANTS = {
    "without random initialisation": ("accuracy.above(selection.initial[dimension].accuracy) and ", ""),
    "without the n-gram floor": (" and accuracy.above(floor.ngram[None])", ""),
    "the earlier of equals": ("_validation(unit) >= _validation(best)", "_validation(unit) > _validation(best)"),
    "the worst": ("_validation(unit) >= _validation(best)", "_validation(unit) <= _validation(best)"),
    "lexical ones too": (" or floors[unit.result.dimension].is_lexical", ""),
    "equal weights twice": ("if found.result.checkpoint not in repeated", "if True"),
}


def test_every_rule_of_probing_decides(monkeypatch):
    monkeypatch.setattr(experiment, "promote_champion", lambda vector, *_: vector)
    assert decided(experiment) == DECIDED


@pytest.mark.parametrize("name", MUTANTS)
def test_the_table_tells_a_mutant_of_probing(name):
    with mutant(experiment, *MUTANTS[name]) as changed:
        assert decided(changed) != DECIDED


def test_a_choice_that_looks_at_its_fold_is_told():
    """Two candidates, each right on one outer fold: the inner folds choose the wrong one for either."""
    labels, folds = np.tile([True, False], 4), np.repeat([0, 1], 4)[None]
    right = np.where(labels, 0.9, 0.1)
    probabilities = np.stack([np.where(folds == fold, right, 1 - right) for fold in (0, 1)])
    validation = np.array([[[0.4, 0.6]], [[0.6, 0.4]]])
    given = (validation, probabilities, labels, folds, GroupBootstrap(np.arange(8)))
    assert nested_selection.nested_selection(*given).accuracy.value == 0
    chosen_once = "np.broadcast_to(validation.mean(axis=2).argmax(axis=0)[:, None], validation.shape[1:])"
    with mutant(nested_selection, "validation.argmax(axis=0)", chosen_once) as changed:
        assert changed.nested_selection(*given).accuracy.value == 0.5


def falling(module, p=0.01, rise=1.0, fall=1.0, error=0.1):
    shape = {name: 0 for name in module.TwoPhases.__dataclass_fields__}
    measured = {"mean_curve": np.zeros(12), "p_value": 0.01, "p_adjusted": p}
    return module.TwoPhases(**shape | measured | {"rise": rise, "fall": fall, "fall_error": error}).compresses


FALLS = (
    (dict(), True),
    (dict(p=0.05), False),
    (dict(p=0.049), True),
    (dict(rise=0.0), False),
    (dict(error=0.6), False),
    (dict(error=float("nan")), True),
    (dict(fall=0.0, error=float("nan")), False),
)
PHASES = {
    "without correction": ("self.p_adjusted < ALPHA", "self.p_value < ALPHA"),
    "a looser level": ("ALPHA = 0.05", "ALPHA = 0.051"),
    "without a rise": (" and self.rise > 0", ""),
    "without other statements": (" and certain", ""),
    "other statements at one error": ("self.fall > 1.96 * self.fall_error", "self.fall > self.fall_error"),
}


def test_every_rule_of_a_fall_decides():
    assert [falling(phases, **case) for case, _ in FALLS] == [falls for _, falls in FALLS]


@pytest.mark.parametrize("name", PHASES)
def test_the_table_tells_a_mutant_of_a_fall(name):
    with mutant(phases, *PHASES[name]) as changed:
        assert [falling(changed, **case) for case, _ in FALLS] != [falls for _, falls in FALLS]
