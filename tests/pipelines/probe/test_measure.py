import numpy as np
import pytest

from pipelines.model_io.activations import Activations
from pipelines.probe.measure import measure
from pipelines.statements.labelled import LabelledStatements
from pipelines.sweep.protocol import FittingProtocol


@pytest.fixture
def statements():
    texts = tuple(f"w{number}" for number in range(80))
    return LabelledStatements("toxicity", texts, np.arange(80) % 2 == 0, np.arange(80) // 2, "test")


@pytest.mark.parametrize("protocol", ["sound", "paper"])
@pytest.mark.parametrize("jitter", [0, 1e-7])
def test_equal_activations_have_no_direction(statements, protocol, jitter, rng):
    same = np.full((80, 8), 0.3, np.float32) + jitter * rng.standard_normal((80, 8)).astype(np.float32)
    telling = rng.standard_normal((80, 8)).astype(np.float32) + 3 * statements.labels[:, None].astype(np.float32)
    measured = measure(
        Activations((0, 1), np.stack([same, telling])), statements, FittingProtocol(protocol=protocol, seeds=2)
    )
    pooled = {score.layer: score for score in measured.scores if score.seed is None}
    assert [direction.layer for direction in measured.directions] == [1]
    assert pooled[1].accuracy.value > 0.9
    assert np.isfinite(measured.probabilities).all()
    if jitter == 0:
        assert pooled[0].accuracy.value == pytest.approx(0.5, abs=0.13)
        assert pooled[0].auroc == pytest.approx(0.5)
