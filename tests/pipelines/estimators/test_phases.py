import numpy as np
import pandas as pd
import pytest
from sklearn.isotonic import isotonic_regression

from pipelines.estimators.phases import _rising_misfits, adjusted, fitting_p_value, peak_index, two_phases
from tests.simulate.phases import NULLS, false_alarms, found_falls

STEPS = (0, 100, 200, 300, 400, 500, 1000, 1500, 2000, 2500, 3000)
PEAKED = np.array([1.0, 2, 3, 4.2, 4, 3.6, 3.1, 2.8, 2.5, 2.2, 2.0])


@pytest.fixture(scope="module")
def digitised(shared_data):
    """The paper's Figures 13 to 17, where this machine has them."""
    return pd.read_csv(shared_data.parent / "paper-figures" / "nhsic.csv")


@pytest.mark.parametrize(
    ("dataset", "peak", "agreeing"),
    [
        ("TruthfulQA", 300, 28), ("Toxigen", 1000, 29), ("ConfAIde", 500, 28), ("StereoSet", 200, 22),
        ("SST-2", 1000, 22),
    ],
)  # fmt: skip
def test_the_papers_own_curves_peak_where_they_do(digitised, dataset, peak, agreeing):
    rows = digitised[(digitised["dataset"] == dataset) & (digitised["quantity"] == "I(T,X)")]
    curves = rows.pivot(index="layer", columns="step", values="value")
    found = two_phases(tuple(curves.columns), curves.to_numpy())
    assert found.peak_step == peak
    assert found.layers == 32
    assert abs(found.layers_agreeing - agreeing) <= 4
    assert found.peak_low <= peak <= found.peak_high
    assert found.peak_step < 2000  # inside the official recipe's warm-up


def test_misfits_of_every_prefix_are_those_of_isotonic_regression(rng):
    for _ in range(30):
        curve = rng.normal(size=12)
        expected = [((curve[:k] - isotonic_regression(curve[:k])) ** 2).sum() for k in range(1, 13)]
        np.testing.assert_allclose(_rising_misfits(curve), expected, atol=1e-12)


def test_a_rise_and_fall_is_found_significant_where_it_turns():
    found = two_phases(STEPS, np.stack([PEAKED, PEAKED * 2]))
    assert found.peak_step == 300
    assert found.layers_agreeing == 2
    assert found.explained == pytest.approx(1)
    assert 2**-7 <= found.p_value < 0.02  # seven steps down, each of which might have gone up
    assert found.compresses
    assert found.rise == pytest.approx(3.2 * 1.5)
    assert found.fall == pytest.approx(2.2 * 1.5)
    assert np.isnan(found.fall_error)


def test_a_steady_rise_or_fall_does_not_compress(rng):
    steady = np.linspace(0, 1, 11)
    for curve in (steady, -steady):
        assert not two_phases(STEPS, curve + 0.02 * rng.normal(size=(1, 11))).compresses


@pytest.mark.parametrize("kind", NULLS)
def test_curves_without_a_fall_are_rarely_said_to_fall(kind):
    """The fast version of ``python -m tests.simulate phases``; a share of .05 of 100 has an error of .022."""
    assert false_alarms(kind, trials=100) <= 0.05 + 0.05


def test_planted_falls_are_found():
    assert found_falls(peak=4, fall=0.6, noise=0.05, trials=60) >= 0.9
    assert found_falls(peak=9, fall=0.3, noise=0.02, trials=60) >= 0.9


def test_the_detectable_fall_is_found_in_80_percent(rng):
    share, steps, noise = [], tuple(range(18)), 0.05
    for _ in range(60):
        wandering = np.cumsum(noise * rng.normal(size=14))
        shape = np.concatenate([np.linspace(0, 1, 4), 1 + wandering])
        fall = two_phases(steps, shape[None]).detectable_fall
        if np.isfinite(fall):
            planted = shape - np.concatenate([np.zeros(3), np.linspace(0, fall, 15)])
            share.append(two_phases(steps, planted[None]).p_value < 0.05)
    assert 0.7 <= np.mean(share) <= 1


def test_correction_takes_the_steadiest_fall_of_all(rng):
    peaked = two_phases(STEPS, PEAKED[None] + 0.01 * rng.normal(size=(1, 11)))
    noise = [two_phases(STEPS, rng.normal(size=(1, 11))) for _ in range(20)]
    corrected, *others = adjusted([peaked, *noise])
    assert corrected.p_adjusted > corrected.p_value == peaked.p_value
    assert all(other.p_adjusted >= other.p_value for other in others)
    assert adjusted([peaked])[0].p_adjusted == peaked.p_value


def test_of_five_checkpoints_no_fall_can_be_told():
    few = two_phases((0, 1, 2, 3, 4), np.array([[0.0, 4, 3, 2, 1]]))
    assert not few.can_be_told
    assert not few.compresses
    assert few.detectable_fall == np.inf


def test_the_peaks_interval_is_that_of_the_resampled_curves(rng):
    replicates = np.stack([np.roll(PEAKED, shift)[None] for shift in (0,) * 15 + (1,) * 5])
    replicates[15:, :, 0] = 0.5
    found = two_phases(STEPS, PEAKED[None], replicates)
    assert (found.peak_step, found.peak_low, found.peak_high) == (300, 300, 400)
    assert found.fall_error == pytest.approx((replicates[:, 0, 3] - replicates[:, 0, -1]).std())


def test_a_fall_that_other_statements_might_not_show_is_none(rng):
    steady = PEAKED[None] + rng.normal(size=(20, 1, 1))
    assert two_phases(STEPS, PEAKED[None], steady).compresses
    unsure = PEAKED + 3 * rng.normal(size=(20, 1, 11))
    found = two_phases(STEPS, PEAKED[None], unsure)
    assert found.p_value < 0.05
    assert not found.compresses


def test_change_points_ignore_a_single_late_spike():
    spiked = PEAKED.copy()
    spiked[-1] = 4.3
    assert np.argmax(spiked) == 10
    assert peak_index(spiked) == 3


def test_fitting_is_a_steady_rise(rng):
    assert fitting_p_value(np.linspace(0, 1, 11) + 0.05 * rng.normal(size=11)) < 0.05
    assert fitting_p_value(-np.linspace(0, 1, 11)) > 0.5
    rare = np.mean([fitting_p_value(np.cumsum(rng.normal(size=11))) < 0.05 for _ in range(200)])
    assert rare <= 0.05 + 0.04
