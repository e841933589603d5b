import numpy as np
import pytest

from pipelines.estimators.mass_mean import fit_mass_mean
from registry.errors import InvalidInput


def two_gaussians(rng, distance=3.0, n=4000, d=12):
    planted = rng.normal(size=d)
    planted /= np.linalg.norm(planted)
    labels = rng.random(n) < 0.5
    features = rng.normal(size=(n, d)) + np.where(labels, distance / 2, -distance / 2)[:, None] * planted
    return features.astype(np.float32), labels, planted


def test_the_planted_direction_is_found(rng):
    features, labels, planted = two_gaussians(rng)
    found = fit_mass_mean(features, labels)
    assert found.direction @ planted > 0.99
    assert np.linalg.norm(found.direction) == pytest.approx(1, abs=1e-6)


def test_the_raw_difference_of_means_is_recovered(rng):
    features, labels, _ = two_gaussians(rng)
    found = fit_mass_mean(features, labels)
    raw = features[labels].mean(axis=0) - features[~labels].mean(axis=0)
    np.testing.assert_allclose(found.direction * found.mean_difference_norm, raw, atol=1e-4)


def test_the_scale_of_two_gaussians_has_its_closed_form(rng):
    features, labels, _ = two_gaussians(rng, distance=3.0, n=40_000)
    # Variance of the mixture along the axis: 1 within, (distance / 2)^2 between.
    assert fit_mass_mean(features, labels).scale == pytest.approx(np.sqrt(1 + 1.5**2), rel=0.02)


def test_flipping_the_labels_flips_the_direction(rng):
    features, labels, _ = two_gaussians(rng)
    np.testing.assert_allclose(
        fit_mass_mean(features, labels).direction, -fit_mass_mean(features, ~labels).direction, atol=1e-6
    )


def test_the_order_of_rows_does_not_matter(rng):
    features, labels, _ = two_gaussians(rng)
    order = rng.permutation(len(labels))
    np.testing.assert_allclose(
        fit_mass_mean(features, labels).direction, fit_mass_mean(features[order], labels[order]).direction, atol=1e-5
    )


def test_coinciding_means_are_refused():
    with pytest.raises(InvalidInput, match="coincide"):
        fit_mass_mean(np.ones((4, 3), np.float32), np.array([True, False, True, False]))
