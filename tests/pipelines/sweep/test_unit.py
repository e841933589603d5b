"""Units: which checkpoints are the same model once more, and which are points of a curve over pre-training."""

from types import SimpleNamespace

import pytest

from pipelines.estimators.estimate import Estimate
from pipelines.estimators.onsets import onset_above
from pipelines.sweep import unit as sweep_unit
from pipelines.sweep.unit import points_along, twins, without_place
from registry import equal_weights
from registry.checkpoints import Checkpoint
from registry.errors import InvalidInput
from registry.named_series import series_of
from tests.mutants import mutant


def test_the_first_checkpoint_of_equal_weights_stands_for_all():
    checkpoints = [Checkpoint("m", "org/m", f"step{step}", step) for step in range(4)]
    units = [
        SimpleNamespace(checkpoint=checkpoint, weights_digest=digest)
        for dimension in range(2)
        for checkpoint, digest in zip(checkpoints, "abaa", strict=True)
    ]
    assert twins(units) == {checkpoints[2], checkpoints[3]}


def test_twins_and_later_stages_are_no_points():
    names = ("stage1-step0", "stage1-step1", "stage1-step10", "stage2-step5", "main")
    results = [
        SimpleNamespace(checkpoint=checkpoint, weights_digest=weights)
        for checkpoint, weights in zip(series_of("m", "org/m", names), "aabcb", strict=True)
    ]
    assert [result.checkpoint.revision for result in points_along(results)] == ["stage1-step0", "stage1-step10"]


def named(weights, names=None):
    """Units of a series whose checkpoints have weights called by a letter each."""
    series = series_of("m", "org/m", names or [f"step{step}" for step in range(len(weights))])
    return [
        SimpleNamespace(checkpoint=checkpoint, weights_digest=letter)
        for checkpoint, letter in zip(series, weights, strict=True)
    ]


STAGES = (
    *("stage1-step1", "stage1-step2", "stage2-ingredient1-step1", "stage2-ingredient1-step2"),
    *("stage2-ingredient2-step1", "main"),
)
DISPUTED = {
    "neighbours, as while a warm-up begins": ("aabc", None, ""),
    "early branches hold the final weights": ("abfcdf", None, "2 5"),
    "a late branch holds early weights": ("abcdb", None, "1 4"),
    "two sets": ("ababc", None, "0 1 2 3"),
    "neighbours that come back": ("aaba", None, "0 1 3"),
    "main, of the last step": ("abcc", ("step1", "step2", "step3", "main"), ""),
    "main, of a step before the last": ("abcb", ("step1", "step2", "step3", "main"), "2"),
    "ingredients begin where the first stage ends": ("abbcbd", STAGES, ""),
    "unknown weights": (("a", "", "b", ""), None, ""),
}


def check_disputed(module=equal_weights):
    for name, (weights, names, steps) in DISPUTED.items():
        units = named(weights, names)
        found = module.disputed({each.checkpoint: each.weights_digest for each in units})
        assert sorted(checkpoint.step for checkpoint in found) == [int(step) for step in steps.split()], name


def test_steps_are_disputed_where_weights_come_back():
    check_disputed()


DISPUTE_MUTANTS = {
    "neighbours are disputed": (
        "[name for name, _ in groupby((*members.values(), *end))]",
        "[*members.values(), *end]",
    ),
    "stages are one": ("if checkpoint.line == line}", "if checkpoint.stage != MAIN}"),
    "main ends nothing": ("groupby((*members.values(), *end))", "groupby(members.values())"),
    "unknown weights are one": ("if name and runs.count(name) > 1", "if runs.count(name) > 1"),
}


@pytest.mark.parametrize("name", DISPUTE_MUTANTS)
def test_the_table_tells_a_mutant_of_the_rule(name):
    with mutant(equal_weights, *DISPUTE_MUTANTS[name]) as changed, pytest.raises(AssertionError):
        check_disputed(changed)


def planted(weights):
    """Accuracies of a series in which nothing is readable but the final weights ``f``."""
    units = named(weights)
    return units, {
        each.checkpoint: Estimate(0.9, 0.85, 0.95, 200)
        if each.weights_digest == "f"
        else Estimate(0.5, 0.45, 0.55, 200)
        for each in units
    }


def onset_of(weights, module=sweep_unit):
    units, accuracies = planted(weights)
    along = module.points_along(units)
    steps = [each.checkpoint.step for each in along]
    control = Estimate(0.5, 0.45, 0.55, 200)
    return onset_above(steps, [accuracies[each.checkpoint] for each in along], control).step


def test_a_branch_that_holds_the_final_weights_sets_no_onset():
    assert onset_of("abcdef") == 5
    assert onset_of("abfdef") is None  # not step 2, and whether step 5 is right its weights do not tell
    units, _ = planted("abfdef")
    assert {checkpoint.step for checkpoint in without_place(units)} == {2, 5}


def test_without_the_rule_the_onset_would_come_too_early():
    rule = "twins(listed) | disputed({unit.checkpoint: unit.weights_digest for unit in listed})"
    with mutant(sweep_unit, rule, "twins(listed)") as changed:
        assert onset_of("abfdef", changed) == 2


def test_a_series_without_a_certain_step_is_refused():
    with pytest.raises(InvalidInput, match="no step is certain: step 0 and step 1 and step 2 and step 3 of m"):
        points_along(named("abab"))
