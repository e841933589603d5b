"""Calibration by flipped labels: bits follow what the channel passes, and a wrong estimator is seen."""

from types import SimpleNamespace

import numpy as np
import pytest

from pipelines.information import calibration
from pipelines.information.calibration import calibrate_information, calibration_lines
from pipelines.information.options import InformationSettings
from pipelines.statements.labelled import LabelledStatements


def calibrated(signal, n=600, d=8):
    rng = np.random.default_rng(5)
    labels = np.tile([True, False], n // 2)
    features = rng.normal(size=(n, d)).astype(np.float32)
    features[:, 0] += np.where(labels, signal, -signal)
    statements = LabelledStatements("toxicity", tuple(f"text {row}" for row in range(n)), labels, np.arange(n), "small")
    result = SimpleNamespace(
        digest="a",
        dimension="toxicity",
        checkpoint=SimpleNamespace(caption="step 100"),
        transferable=SimpleNamespace(layer=2),
    )
    store = SimpleNamespace(states=lambda _digest: features)
    return calibrate_information(result, statements, store, InformationSettings())


@pytest.mark.parametrize(("signal", "tolerance"), [(12.0, 0.07), (1.0, 0.08), (0.0, 0.05)])
def test_bits_follow_the_share_of_flipped_labels(signal, tolerance):
    found = calibrated(signal)
    for point in found.points:
        assert point.bits.value == pytest.approx(point.expected_bits, abs=tolerance)
        assert point.neighbour_bits == pytest.approx(max(point.expected_bits, 0), abs=0.12)
        assert point.nhsic_ty == pytest.approx(point.expected_nhsic_ty, abs=0.04)
    assert found.following >= 4
    if signal == 12:
        assert [point.expected_bits for point in found.points] == pytest.approx(
            [point.passed_bits for point in found.points], abs=0.02
        )


def test_an_estimator_that_saw_its_labels_does_not_follow(monkeypatch):
    """Bits of the statements that a probe was fitted on stay high under labels that tell nothing."""

    def fitted_on_all(features, labels, _folds, *, tested):
        return [SimpleNamespace(probabilities=np.where(labels, 0.99, 0.01))]

    monkeypatch.setattr(calibration, "probe_layer", fitted_on_all)
    found = calibrated(1.0)
    assert found.following == 0
    assert "0 of 5" in calibration_lines([found])
