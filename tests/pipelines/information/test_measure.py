"""Units of the information experiment: what they measure, how they are kept, and what becomes of them over steps."""

import dataclasses

import numpy as np
import pytest
import torch

from pipelines.estimators.paper_protocol import paper_features, paper_labels, paper_nhsic, paper_operator
from pipelines.information.measure import Shared, keep_transferable, measure_information
from pipelines.information.options import InformationSettings
from pipelines.information.plan import InformationPlan, ngram_baseline
from pipelines.information.result import FIXED, OWN, PAPER, InformationResult
from pipelines.information.store import InformationStore
from pipelines.information.summary import summary
from pipelines.information.tables import (
    BANDWIDTH_COLUMNS,
    INFORMATION_COLUMNS,
    TRANSFER_COLUMNS,
    bandwidth_table,
    dynamics_table,
    information_table,
    inside_warmup,
    phase_table,
    transfer_table,
)
from pipelines.information.trajectory import analyse
from pipelines.model_io.activations import Activations
from pipelines.statements.labelled import LabelledStatements
from pipelines.sweep.folds import cross_validation
from pipelines.sweep.run import run_sweep
from registry.checkpoints import Checkpoint
from registry.errors import InvalidInput
from serving.model.sources import find_series
from tests.small_statements import FILLERS

N = 120


def statements(n=N, seed=0):
    """Pairs that end in a telling word, so that an n-gram model knows the label."""
    rng = np.random.default_rng(seed)
    openings = [" ".join(rng.choice(FILLERS, 5)) + f" {row}" for row in range(n // 2)]
    texts = [f"{opening} {word}" for opening in openings for word in ("kind", "cruel")]
    return LabelledStatements("toxicity", tuple(texts), np.tile([True, False], n // 2), np.arange(n) // 2, "test")


def planted(labels, strengths, seed=0, layers=3, d_model=12):
    """Layers of which the l-th holds the label in proportion to ``strengths[l]``; the first is noise around it."""
    rng = np.random.default_rng(seed)
    axis = np.where(labels, 1.0, -1.0)[:, None] * np.eye(1, d_model)
    base = rng.normal(size=(len(labels), d_model))
    states = np.stack([base + strength * axis for strength in strengths])
    return Activations(tuple(range(layers)), states.astype(np.float32))


def shared(one, activations, ngrams=True):
    splits = cross_validation(one, (0,))
    baseline = ngram_baseline(one, splits) if ngrams else np.full(one.n, 0.5)
    return Shared(activations.layer(0), splits, baseline)


def result(one, activations, step, settings, common):
    """A unit as the plan makes it, without a model."""
    return InformationResult(
        digest=f"{step}",
        checkpoint=Checkpoint("mini", "/nowhere", "init" if step < 0 else f"step_{step}", step),
        weights_digest=f"w{step}",
        dimension=one.dimension,
        statements_digest=one.digest,
        statements_source=one.source,
        n=one.n,
        seed=settings.seed,
        precision="float32",
        points=measure_information(activations, one, settings, common),
        transferable=keep_transferable(activations, one, common.splits.folds[0]),
        seconds=0.0,
    )


def test_a_planted_label_is_found_in_its_layer():
    one = statements()
    activations = planted(one.labels, (0.0, 0.0, 3.0))
    points = measure_information(activations, one, InformationSettings(), shared(one, activations, ngrams=False))
    blind, telling = points[1], points[2]
    assert telling.bits.low > 0.8
    assert telling.ty.nhsic > 3 * telling.ty.null
    assert telling.conditional_bits.low > 0.8
    assert telling.neighbour_bits == pytest.approx(telling.bits.value, abs=0.2)
    assert blind.bits.value < 0.05
    assert blind.ty.nhsic < 2 * blind.ty.null
    assert points[0].xt[OWN].nhsic == pytest.approx(points[0].tt)  # X is the first layer
    assert points[0].xt[OWN].cka == pytest.approx(1)
    assert points[0].xt[FIXED] == points[0].xt[OWN]  # the reference given is the same
    assert {swept.scale for swept in telling.swept} == {1.0, 0.5, 2.0, 8.0}
    assert telling.swept[0].xt == telling.xt[OWN].nhsic


def test_what_an_ngram_model_knows_is_not_counted_twice():
    one = statements()
    activations = planted(one.labels, (0.0, 3.0, 3.0))
    (_, point, _) = measure_information(activations, one, InformationSettings(), shared(one, activations))
    assert point.bits.low > 0.8
    assert point.conditional_bits.high < 0.1


def test_the_papers_estimator_is_its_code_layer_by_layer():
    one = statements()
    activations = planted(one.labels, (0.0, 0.5, 1.0))
    settings = InformationSettings(estimator="paper")
    points = measure_information(activations, one, settings, shared(one, activations))
    x, y = paper_operator(paper_features(activations.layer(0))), paper_operator(paper_labels(one.labels))
    for point in points:
        here = paper_operator(paper_features(activations.layer(point.layer)))
        assert set(point.xt) == {PAPER}
        assert point.xt[PAPER].nhsic == pytest.approx(paper_nhsic(here, x))
        assert point.ty.nhsic == pytest.approx(paper_nhsic(here, y))
        assert np.isnan(point.ty.cka)


def test_what_is_kept_can_be_transferred():
    one = statements()
    activations = planted(one.labels, (0.0, 0.0, 4.0), layers=3)
    folds = cross_validation(one, (0,)).folds[0]
    kept = keep_transferable(activations, one, folds)
    assert kept.layer == 1  # two thirds down, of three
    assert np.abs(kept.states).max() == 1
    whole = activations.layer(1) / np.abs(activations.layer(1)).max()
    np.testing.assert_allclose(kept.states, whole, atol=1e-3)
    assert kept.weights.shape == (5, 12)


@pytest.fixture(scope="module")
def trajectory(tmp_path_factory):
    """A label that comes at step 20 and stays, and a geometry that is rich at step 10 and poor later."""
    one, settings = statements(), InformationSettings()
    store = InformationStore(tmp_path_factory.mktemp("information"))
    scales = {-1: 1.0, 0: 1.0, 10: 0.1, 20: 0.5, 30: 1.0, 40: 1.5}
    results, common = [], None
    for step, scale in scales.items():
        strength = 4.0 if step >= 20 else 0.0
        activations = planted(one.labels, (0.0, strength, strength), seed=1)
        states = activations.hidden_states.copy()
        states[1:] += scale * np.random.default_rng(2).normal(size=(N, 1))  # one shared direction
        activations = Activations(activations.layers, states.astype(np.float32))
        common = common or shared(one, activations, ngrams=False)
        results.append(result(one, activations, step, settings, common))
        store.save(results[-1])
    stored = [store.find(unit.digest).without_states() for unit in results]
    return analyse(stored, one, store, 0), results, settings


def test_a_unit_is_stored_whole(trajectory, tmp_path):
    _, results, _ = trajectory
    store = InformationStore(tmp_path)
    store.save(results[0])
    found = store.find(results[0].digest)
    assert dataclasses.replace(found, transferable=None) == dataclasses.replace(results[0], transferable=None)
    np.testing.assert_array_equal(found.transferable.states, results[0].transferable.states)
    np.testing.assert_array_equal(store.states(results[0].digest), results[0].transferable.states)
    assert len(found.without_states().transferable.states) == 0


def test_a_trajectory_tells_onset_and_transfer(trajectory):
    found, _, _ = trajectory
    when = found.layer_dynamics(1)
    assert (when.onset.step, when.onset_beyond_ngrams.step, when.rise_95) == (20, 20, 20)
    assert (when.onset.lasts, when.onset.lost) == ("yes", None)
    assert found.layer_dynamics(0).onset.step is None  # X never holds it
    accuracy = found.transfer.accuracy
    assert found.transfer.n == N
    assert accuracy[2:, 2:].min() > 0.9
    assert accuracy[:2, :2].max() < 0.75
    assert found.transfer.cosine[2:, 2:].min() > 0.9
    np.testing.assert_allclose(np.diag(found.transfer.recentred), np.diag(accuracy), atol=0.02)
    assert min(found.transfer.reliability[2:]) > 0.9 > max(found.transfer.reliability[:2])
    # The planted direction is one from the third checkpoint on; before there was none.
    last = [pair.verdict for pair in found.transfer.likeness[-1]]
    assert set(last[2:]) == {"not shown"}
    assert last[:2] != ["not shown"] * 2


def test_a_held_direction_differs_from_a_moved_threshold(tmp_path):
    one, settings, store = statements(), InformationSettings(), InformationStore(tmp_path)
    before = planted(one.labels, (0.0, 4.0, 4.0))
    after = Activations(before.layers, before.hidden_states + 20 * np.eye(1, 12, dtype=np.float32))
    common = shared(one, before, ngrams=False)
    results = [result(one, states, step, settings, common) for step, states in ((-1, before), (0, before), (1, after))]
    for unit in results:
        store.save(unit)
    transfer = analyse(results, one, store, 0).transfer
    assert transfer.accuracy[0, 1] == 0.5
    assert transfer.recentred[0, 1] > 0.95


def test_a_trajectory_tells_where_the_geometry_turns(trajectory):
    found, _, _ = trajectory
    phase = found.phase(OWN)
    assert phase.shape.peak_step == 10
    assert phase.shape.layers == 2  # the layers above that of X
    assert found.phase(OWN, layer=1).shape.layers == 1
    assert found.phase(OWN, "effective_rank").shape.peak_step == 10
    assert found.phase(OWN, "effective_rank").rank_correlation.value == pytest.approx(1)
    assert str(phase.rank_correlation) == "cannot be told"  # of five checkpoints
    assert not phase.shape.compresses
    assert inside_warmup(phase.shape, 10) == "yes"
    assert inside_warmup(phase.shape, 5) == "no"
    assert inside_warmup(dataclasses.replace(phase.shape, peak_high=20), 10) == "unclear"
    assert inside_warmup(phase.shape, None) == "unknown"


def test_tables_have_the_promised_columns_and_a_row_for_everything(trajectory):
    found, results, settings = trajectory
    table = information_table(results, settings)
    assert tuple(table.columns) == INFORMATION_COLUMNS
    assert tuple(table.columns[:14]) == (
        "model", "revision", "step", "dimension", "layer", "estimator", "nhsic_xt", "nhsic_ty", "null_xt", "null_ty",
        "v_information_bits", "effective_rank", "n", "seed",
    )  # fmt: skip
    assert len(table) == 6 * 3 * 2
    assert not table.drop(columns=["cka_xt", "cka_ty", "tokens", "ingredient"]).isna().any().any()
    assert (table["null_mean_xt"] < table["null_xt"]).all()
    phases = phase_table([found], 10)
    # nHSIC and CKA for both X, and effective rank: all layers and each; then three more bandwidths.
    assert len(phases) == 5 * 4 + 3
    assert [bandwidth.quantity for bandwidth in found.bandwidths] == ["nhsic_xt"] + [
        f"nhsic_xt_bandwidth_{scale}" for scale in ("0.5", "2", "8")
    ]
    assert set(phases["inside_warmup"]) <= {"yes", "no", "unclear"}
    dynamics = dynamics_table([found])
    assert dynamics["onset_step"].tolist()[1:] == [20, 20]
    assert dynamics["onset_step"].isna().tolist()[0]
    assert dynamics["onset_lasts"].tolist() == ["", "yes", "yes"]
    assert dynamics["onset_lost_step"].isna().all()
    transfers = transfer_table([found])
    assert tuple(transfers.columns) == TRANSFER_COLUMNS
    assert len(transfers) == 5 * 5
    own = transfers[transfers["fitted_step"] == transfers["applied_step"]].set_index("applied_step")
    assert (transfers["own_accuracy"] == transfers["applied_step"].map(own["accuracy"])).all()
    assert (transfers["accuracy_low"] < transfers["accuracy_high"]).all()
    assert set(transfers["another_direction"]) <= {"yes", "not shown", "cannot be told"}
    steady = transfers.dropna(subset="ceiling")
    roots = (steady["reliability_fitted"] * steady["reliability_applied"]) ** 0.5
    np.testing.assert_allclose(steady["ceiling"], roots)
    printed = summary([found], None)
    assert "by more than directions so reliable may" in printed
    swept = bandwidth_table(results)
    assert tuple(swept.columns) == BANDWIDTH_COLUMNS
    assert len(swept) == 6 * 3 * 4


@pytest.fixture
def plan(series_directory, cache):
    series = find_series(str(series_directory))
    return InformationPlan(series.checkpoints, {"toxicity": statements(40)}, InformationSettings())


def test_a_killed_sweep_resumes_with_the_same_numbers(plan, cache, monkeypatch):
    whole = list(run_sweep(plan.prepared(InformationStore()), InformationStore()))
    store = InformationStore(cache / "again")
    interrupted = run_sweep(plan.prepared(store), store)
    next(interrupted)
    interrupted.close()
    measured = []
    real = measure_information
    monkeypatch.setattr(
        "pipelines.information.plan.measure_information", lambda *a, **k: measured.append(1) or real(*a, **k)
    )
    resumed = list(run_sweep(plan.prepared(store), store))
    assert len(measured) == 2
    tables = [information_table(results, plan.settings) for results in (whole, resumed)]
    assert tables[0].equals(tables[1])
    assert plan.prepared(store).shared == {}  # nothing is left to prepare for


def test_what_decides_a_number_decides_the_digest(plan):
    checkpoint = plan.checkpoints[1]
    digests = {plan.digest(checkpoint, "toxicity") for checkpoint in plan.checkpoints}
    for changes in ({"estimator": "paper"}, {"landmarks": 50}, {"seed": 1}):
        other = dataclasses.replace(plan, settings=InformationSettings(**changes))
        digests.add(other.digest(checkpoint, "toxicity"))
    # The last checkpoint is the fixed reference input.
    digests.add(dataclasses.replace(plan, checkpoints=plan.checkpoints[:-1]).digest(checkpoint, "toxicity"))
    assert len(digests) == 7  # three checkpoints and four other sweeps


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"estimator": "mine"}, "unknown estimator 'mine'; known: sound, paper"),
        ({"landmarks": 2}, "landmarks is 2"),
        ({"landmarks": -1}, "landmarks is -1"),
        ({"seed": -1}, "`seed` is -1"),
    ],
)
def test_wrong_settings_are_refused_at_the_door(changes, words):
    with pytest.raises(InvalidInput, match=words):
        InformationSettings(**changes)


def test_memory_is_linear_in_statements_with_landmarks():
    """What a kernel keeps of 4,000 statements is 4,000 by landmarks, never 4,000 by 4,000."""
    from pipelines.estimators.nhsic import choose_landmarks, kernel_factors, standardised

    features = np.random.default_rng(0).normal(size=(4000, 8))
    (factor,) = kernel_factors(standardised(features), choose_landmarks(4000, 50, 0))
    kept = [value for value in vars(factor).values() if isinstance(value, torch.Tensor)]
    assert max(value.numel() for value in kept) <= 4000 * 50
