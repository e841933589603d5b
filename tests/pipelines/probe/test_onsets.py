"""Onsets: the rules that decide, a mutant of each, and what a run leaves of them."""

import mlflow
import numpy as np
import pandas as pd
import pytest

from pipelines.cli.command import run_command
from pipelines.estimators.estimate import Estimate, prediction_bound
from pipelines.estimators.onsets import Onset
from pipelines.model_io.likelihoods import Likelihoods
from pipelines.probe import onsets
from pipelines.probe.__main__ import main
from pipelines.probe.onsets import DimensionOnset, Judged, judged_onset, onset_cells, onset_lines, onset_table
from pipelines.probe.options import ProbeOptions
from pipelines.probe.preferences import SteeredPreference, steered_layer, steered_preference, unsteered_preference
from pipelines.statements.labelled import LabelledStatements
from pipelines.statements.sources import load_statements
from pipelines.sweep.protocol import FittingProtocol
from registry.dimensions import TOXICITY
from registry.errors import InvalidInput, UnknownName
from serving.model.language_model import load
from serving.model.sources import find_series
from tests.mutants import mutant
from tests.pipelines.probe.units import unit
from tests.simulate.checkpoints import lost_onsets, steerable_onsets, used_onsets
from tests.small_statements import write_statements, write_two_dimensions


def near(value, half=0.05):
    return Estimate(value, value - half, value + half, 100)


USED = {
    "above chance and random initialisation": (near(0.7), near(0.5), True),
    "above random initialisation alone": (near(0.5), near(0.3), False),
    "above chance alone": (near(0.7), near(0.68), False),
    # .58 is 3.1 standard errors above chance: one of 15 steps, not of 15 thousand.
    "once in so many steps": (near(0.58), near(0.3), True),
}
STEERED = {
    "beyond random directions": (near(1.0, 0.3), (0.1, -0.1) * 5, True),
    "as far as random directions": (near(1.0, 0.3), (0.9, -0.9) * 5, False),
    "the interval's end within random directions": (near(1.0, 0.6), (0.1, -0.2) * 5, False),
    "the wrong way, random directions more so": (near(-0.5, 0.1), (-1.5, -1.6) * 5, False),
}


def check_tables(module=onsets):
    for name, (preference, initial, used) in USED.items():
        assert module.is_used(preference, initial, 15) == used, name
    assert not module.is_used(near(0.58), near(0.3), 15_000)
    for name, (shift, random, steerable) in STEERED.items():
        assert module.is_steerable(SteeredPreference(shift, random), 15) == steerable, name
    assert not module.is_steerable(SteeredPreference(near(0.6, 0.1), (0.15, -0.15) * 5), 10**6)


def test_every_rule_of_an_onset_decides():
    check_tables()


MUTANTS = {
    "without chance": ("for control in (CHANCE, initial)", "for control in (initial,)"),
    "without random initialisation": ("for control in (CHANCE, initial)", "for control in (CHANCE,)"),
    "any control is enough for use": (
        "return all(surely_above(preference, control, comparisons)",
        "return any(surely_above(preference, control, comparisons)",
    ),
    "use at the level of one step": ("(preference, control, comparisons)", "(preference, control, 1)"),
    "without zero": ("    controls = (ZERO, Estimate(", "    controls = (Estimate(bound, bound, bound, 1), Estimate("),
    "without random directions": (", Estimate(bound, bound, bound, len(steered.random)))", ",)"),
    "the mean of random directions": ("prediction_bound(steered.random, ", "prediction_bound(steered.random, 0.5 or "),
    "random directions at the level of one step": ("(1 - CONFIDENCE) / comparisons)", "(1 - CONFIDENCE))"),
}  # fmt: skip


@pytest.mark.parametrize("name", MUTANTS)
def test_the_tables_tell_a_mutant(name):
    with mutant(onsets, *MUTANTS[name]) as changed, pytest.raises(AssertionError):
        check_tables(changed)


def test_one_more_draw_exceeds_its_bound_as_rarely_as_said(rng):
    drawn = rng.normal(3, 2, size=(4000, 11))
    above = [row[0] > prediction_bound(row[1:], 0.05) for row in drawn]
    assert np.mean(above) == pytest.approx(0.05, abs=0.015)
    assert prediction_bound([1.0], 0.05) == float("inf")


def test_noise_is_neither_used_nor_steerable():
    """The fast version of ``python -m tests.simulate checkpoints``."""
    assert used_onsets(15, 120, 0.5, trials=100) <= 0.05 + 0.05
    assert steerable_onsets(15, 40, trials=15) <= 0.05 + 0.1


def test_planted_use_and_steering_are_found():
    assert used_onsets(15, 120, 0.75, trials=20) == 1
    assert steerable_onsets(15, 40, trials=5, planted=1.0) == 1


def statements(groups, labels=(True, False) * 30):
    return LabelledStatements("toxicity", tuple(f"text {n}" for n in range(60)), np.array(labels), groups, "small.csv")


def test_pairs_are_compared_as_wholes_and_others_by_token():
    labels = np.tile([True, False], 30)
    likely = Likelihoods(np.where(labels, -30.0, -20.0), np.where(labels, 10, 4))
    assert unsteered_preference(statements(np.arange(60) // 2), likely).value == 0
    assert unsteered_preference(statements(np.arange(60)), likely).value == 1  # -3 a token against -5


def test_the_steered_layer_is_chosen_on_other_statements(rng):
    """The second layer tells apart the held-out fold alone, which must not be looked at."""
    labelled = statements(np.arange(60) // 2)
    result = unit(labelled, [rng.normal(size=(60, 4)) for _ in range(4)])
    validation = result.validation.copy()
    validation[:] = 0.5
    validation[0, 3, 0], validation[0, 2, 1:] = 0.6, 0.9
    assert steered_layer(type(result)(**{**vars(result), "validation": validation})) == 3


@pytest.fixture
def model(series_directory):
    return load(find_series(str(series_directory)).checkpoints[-1])


def test_a_shift_stands_beside_random_ones_of_its_norm(model, tmp_path):
    labelled = load_statements(TOXICITY, str(write_statements(tmp_path / "data")))
    still = steered_preference(model, labelled, 1, np.zeros(model.d_model, np.float32))
    assert still.shift.value == pytest.approx(0, abs=1e-6)
    assert still.random == pytest.approx((0.0,) * 10, abs=1e-6)
    moved = steered_preference(model, labelled, 1, np.eye(model.d_model, dtype=np.float32)[0] * 5)
    assert moved.shift.value != 0
    assert len(set(moved.random)) == 10


def test_a_dimension_without_onset_says_never():
    found = tuple(
        DimensionOnset("toxicity", kind, Onset(step), 12) for kind, step in (("readable", 1024), ("used", None))
    )
    assert onset_cells(found, "toxicity") == ("1,024", "never")
    assert "toxicity          1,024      never" in onset_lines(found)
    table = onset_table("mini", found)
    assert table["step"].isna().tolist() == [False, True]
    assert table["error_rate"].tolist() == [0.05, 0.05]


def test_lasting_is_said_with_the_onset():
    def judged(*course):
        return [Judged(2**place, near(value), holds) for place, (value, holds) in enumerate(course)]

    high, low, between = (0.9, True), (0.5, False), (0.85, False)
    lost, unsure, never = (
        judged_onset("privacy", "used", judged(*course))
        for course in ((low, high, high, low), (low, high, between), (low,))
    )
    assert (lost.onset, lost.checkpoints) == (Onset(2, 8, (True, False)), 4)
    assert onset_cells((lost,), "privacy") == ("2, lost at 8",)
    assert "not shown to last: privacy (used)" in onset_lines((lost, unsure))
    table = onset_table("mini", (lost, unsure, never))
    assert table["lost_step"].tolist()[0] == 8
    assert table["lasts"].tolist() == ["no", "not shown", ""]


def test_what_never_falls_is_seldom_called_lost():
    """The fast version of ``python -m tests.simulate checkpoints``."""
    for share in (0.6, 0.7):
        assert lost_onsets(15, 120, (share,) * 15, trials=100) <= 0.05 + 0.05
    assert lost_onsets(15, 120, (*(0.8,) * 8, *(0.5,) * 7), trials=20) == 1


def test_unknown_onsets_and_the_papers_are_refused():
    with pytest.raises(UnknownName, match="did you mean 'steerable'"):
        ProbeOptions(onsets=("steerabel",))
    with pytest.raises(InvalidInput, match="protocol=paper chooses layers on the rows it tests"):
        ProbeOptions(onsets=("used",), protocol=FittingProtocol("paper"))


def test_a_run_leaves_onsets_and_what_they_are_decided_on(series_directory, tmp_path, tracking, cache, capsys):
    data = write_two_dimensions(tmp_path / "data")
    arguments = ["--model", str(series_directory), "--data", str(data), "--dimensions", "toxicity", "--seeds", "1"]
    assert run_command(main, [*arguments, "--onsets", "readable,used,steerable"]) == 0
    printed = capsys.readouterr().out
    assert "Onsets, each wrong in at most 5 % over 3 steps:" in printed
    assert "; above both: its interval lies above the intervals of both\n" in printed
    assert "the n-gram floor, intervals may overlap\n" in printed
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("trusttrace")
    (parent,) = [
        run for run in client.search_runs([experiment.experiment_id]) if "mlflow.parentRunId" not in run.data.tags
    ]
    found, preferences = (
        pd.read_csv(client.download_artifacts(parent.info.run_id, name)) for name in ("onsets.csv", "preferences.csv")
    )
    assert found["onset"].tolist() == ["readable", "used", "steerable"]
    assert preferences["step"].tolist() == [-1, 0, 10, 100]
    assert (preferences["random_directions"] == 10).all()
    assert preferences["preference"].between(0, 1).all()
    assert "steerable from step" in parent.data.tags["mlflow.note.content"]
    assert {"toxicity/preference", "toxicity/own_shift", "toxicity/largest_random_shift"} <= set(parent.data.metrics)
