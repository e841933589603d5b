import numpy as np
import pytest

from pipelines.estimators.label_noise import expected_bits, expected_nhsic, flipped, noise_entropy_bits, passed_bits
from pipelines.estimators.nhsic import choose_landmarks, kernel_factors, label_factor, nhsic, standardised
from pipelines.estimators.v_information import label_entropy_bits, usable_information

LABELS = np.tile([True, False], 200)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.3, 0.5])
def test_a_share_of_each_class_is_flipped(share):
    turned = flipped(LABELS, share, seed=3)
    assert (turned != LABELS).mean() == pytest.approx(share)
    assert turned.mean() == 0.5
    assert passed_bits(LABELS, share) == pytest.approx(1 - noise_entropy_bits(share))


def test_certain_predictions_must_have_what_the_channel_passes():
    certain = np.where(LABELS, 1 - 1e-9, 1e-9)
    for share in (0.1, 0.3, 0.5):
        assert expected_bits(LABELS, certain, share, 1.0) == pytest.approx(1 - noise_entropy_bits(share), abs=1e-6)
    assert noise_entropy_bits(0.11) == pytest.approx(0.5, abs=1e-3)


def test_expected_bits_are_the_mean_over_flips(rng):
    probabilities = rng.beta(2, 1, size=400)
    probabilities = np.where(LABELS, probabilities, 1 - probabilities)
    drawn = []
    for seed in range(300):
        turned = flipped(LABELS, 0.2, seed=seed)
        softened = 0.2 + 0.6 * probabilities
        drawn.append(usable_information(turned, softened).mean())
    entropy = label_entropy_bits(flipped(LABELS, 0.2, seed=0))
    assert expected_bits(LABELS, probabilities, 0.2, entropy) == pytest.approx(np.mean(drawn), abs=0.003)
    plain = usable_information(LABELS, probabilities).mean()
    assert expected_bits(LABELS, probabilities, 0.0, 1.0) == pytest.approx(plain)


@pytest.mark.parametrize("landmarks", [0, 60])
def test_expected_nhsic_is_the_mean_over_flips(rng, landmarks):
    features = rng.normal(size=(400, 6)) + 2 * LABELS[:, None]
    (kernel,) = kernel_factors(standardised(features), choose_landmarks(400, landmarks, 0))
    unflipped = nhsic(kernel, label_factor(LABELS))
    for share in (0.1, 0.5):
        drawn = [nhsic(kernel, label_factor(flipped(LABELS, share, seed=seed))) for seed in range(60)]
        assert expected_nhsic(kernel, unflipped, share) == pytest.approx(np.mean(drawn), rel=0.05)
