import numpy as np
import pytest

from pipelines.estimators import likeness as module
from pipelines.estimators.jackknife import jackknife_halves
from pipelines.estimators.likeness import FittedHalves, fit_halves, likenesses, mass_mean_halves, reliability
from pipelines.estimators.mass_mean import fit_mass_mean
from tests.mutants import mutant

D = 32


def pair(rng, n_groups, apart, cosine, shared=0.0):
    """Activations of the same pairs at two checkpoints, whose planted directions have ``cosine`` in common."""
    labels = np.tile([True, False], n_groups)
    planted = np.zeros((2, D))
    planted[0, 0], planted[1, :2] = 1, (cosine, np.sqrt(1 - cosine**2))
    common = rng.normal(size=(len(labels), D))
    noise = (shared * common + np.sqrt(1 - shared**2) * rng.normal(size=common.shape) for _ in range(2))
    sides = np.where(labels, apart / 2, -apart / 2)[:, None]
    halves = jackknife_halves(np.arange(len(labels)) // 2, 0)
    return [
        mass_mean_halves((each + sides * axis).astype(np.float32), labels, halves)
        for each, axis in zip(noise, planted, strict=True)
    ]


def like(first, second, of=likenesses):
    return of([first], [second])[0][0]


def verdicts(n_groups, apart, cosine, shared=0.0, trials=100):
    return [like(*pair(np.random.default_rng(seed), n_groups, apart, cosine, shared)).verdict for seed in range(trials)]


@pytest.mark.parametrize(("n_groups", "apart"), [(8, 1), (15, 2), (40, 1), (40, 2), (200, 1)])
@pytest.mark.parametrize("shared", [0.0, 0.95])
def test_one_direction_of_few_statements_is_not_called_another(n_groups, apart, shared):
    """Their cosine is far below 1 for want of statements alone."""
    assert verdicts(n_groups, apart, 1.0, shared).count("yes") <= 9  # of 100, 5 expected at most


def test_the_ceiling_is_the_mean_cosine_of_one_direction(rng):
    found = [like(*pair(rng, 120, 1.5, 1.0)) for _ in range(60)]
    cosine, ceiling, disjoint = (
        np.mean([getattr(each, name) for each in found]) for name in ("cosine", "ceiling", "disjoint")
    )
    assert ceiling == pytest.approx(cosine, abs=0.02)
    assert disjoint == pytest.approx(cosine, abs=0.02)
    assert cosine < 0.85


def test_planted_different_directions_are_told():
    assert verdicts(200, 2, 0.5, trials=20).count("yes") == 20
    assert verdicts(60, 2, 0.5, 0.95, trials=20).count("yes") >= 18


def test_shared_chance_does_not_hide_another_direction():
    """On the same statements the cosine lies above the ceiling; across halves it does not."""
    found = like(*pair(np.random.default_rng(0), 60, 1.5, 0.7, shared=0.95))
    assert found.cosine > found.ceiling
    assert found.is_another


def test_no_verdict_on_directions_that_chance_alone_turns():
    assert set(verdicts(8, 0.2, 0.0, trials=40)) <= {"cannot be told", "not shown"}
    assert verdicts(8, 0.2, 0.0, trials=40).count("cannot be told") >= 36


def test_reliability_is_the_squared_cosine_with_the_truth(rng):
    """Spearman and Brown's step from halves to the whole."""
    found, truth = [], np.eye(D)[0]
    for _ in range(60):
        fitted, _ = pair(rng, 60, 1.5, 1.0)
        found.append((reliability(fitted), (fitted.whole @ truth / np.linalg.norm(fitted.whole)) ** 2))
    measured, true = np.mean(found, axis=0)
    assert measured == pytest.approx(true, abs=0.03)
    assert 0.5 < true < 0.85


def test_a_direction_is_itself(rng):
    fitted, _ = pair(rng, 40, 2, 1.0)
    found = like(fitted, fitted)
    assert found.cosine == pytest.approx(1)
    assert found.ceiling == pytest.approx(reliability(fitted))
    assert found.verdict == "not shown"


def test_halves_are_fitted_as_the_whole_is(rng):
    labels, features = np.tile([True, False], 20), rng.normal(size=(40, D)).astype(np.float32)
    halves = jackknife_halves(np.arange(40) // 2, 0)
    fast = mass_mean_halves(features, labels, halves)
    slow = fit_halves(lambda rows: fit_mass_mean(features[rows], labels[rows]).direction, halves)
    for product, direction in ((fast.whole, slow.whole), *zip(fast.halves, slow.halves, strict=True)):
        np.testing.assert_allclose(product / np.linalg.norm(product), direction, atol=1e-5)


def test_a_half_of_one_class_has_no_direction(rng):
    labels, features = np.arange(12) < 2, rng.normal(size=(12, D)).astype(np.float32)
    halves = np.stack([np.arange(12) < 6, np.arange(12) >= 6])
    assert not mass_mean_halves(features, labels, halves).halves[1].any()
    equal = fit_halves(
        lambda rows: (
            fit_mass_mean(
                np.ones((rows.sum(), D)) * rows.all() * labels[: rows.sum(), None], labels[: rows.sum()]
            ).direction
        ),
        halves,
    )
    assert not equal.halves.any()


@pytest.mark.parametrize(
    ("passage", "replacement"),
    [
        ("self.high < self.ceiling", "self.cosine < self.ceiling"),
        ("other.halves[1::2]).sum(axis=1) / 2 +", "other.halves[::2]).sum(axis=1) / 2 +"),
        ("2 * positive / (1 + positive)", "positive"),
    ],
)
def test_mutants_of_the_verdict_are_told_apart(passage, replacement):
    """A cosine without interval, halves that share statements, and no step up."""
    assert not _errs(likenesses)
    with mutant(module, passage, replacement) as changed:
        assert _errs(changed.likenesses)


def _errs(of):
    equal = [like(*pair(np.random.default_rng(seed), 40, 1.5, 1.0), of=of) for seed in range(40)]
    other = [like(*pair(np.random.default_rng(seed), 60, 1.5, 0.7, 0.95), of=of) for seed in range(20)]
    gaps = [found.ceiling - found.cosine for found in equal if found.can_be_told]
    wrong, seen = (sum(found.is_another for found in each) for each in (equal, other))
    return wrong > 4 or seen < 10 or abs(np.mean(gaps)) > 0.05


def test_directions_of_no_length_agree_with_nothing():
    nothing = FittedHalves(np.zeros(D), np.zeros((20, D)))
    assert reliability(nothing) == 0
    assert like(nothing, nothing).verdict == "cannot be told"
