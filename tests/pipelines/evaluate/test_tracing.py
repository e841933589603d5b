import numpy as np
import pytest

from pipelines.estimators.estimate import Estimate
from pipelines.evaluate.conditions import Subject
from pipelines.evaluate.tracing import (
    TRACING_COLUMNS,
    TracedCheckpoint,
    correlation_summary,
    correlation_table,
    correlations,
    require_traceable,
    tracing_table,
)
from registry.checkpoints import Checkpoint
from registry.dimensions import TOXICITY
from registry.errors import InvalidInput
from tests.serving.engine.small_models import served_vector


def traced(dimension, accuracies, effects):
    steps = (Checkpoint("m", "m", f"step{step}", step) for step in range(len(accuracies)))
    return [
        TracedCheckpoint(dimension, checkpoint, 2, Estimate(x, x, x, 50), Estimate(y, y, y, 50))
        for checkpoint, x, y in zip(steps, accuracies, effects, strict=True)
    ]


def test_two_curves_that_only_rise_are_not_correlated(rng):
    rise = 1 - 0.5 * np.exp(-np.arange(16) / 3)
    noise, other = rng.normal(scale=0.03, size=(2, 16))
    (found,) = correlations(traced("toxicity", rise + noise, 3 * rise + other))
    assert np.corrcoef(rise + noise, 3 * rise + other)[0, 1] > 0.9
    assert found.changes.n == 16
    assert found.changes.low < 0 < found.changes.high


def test_what_moves_together_between_checkpoints_is_correlated(rng):
    rise, together = np.linspace(0.5, 0.9, 16), rng.normal(scale=0.05, size=16)
    (found,) = correlations(traced("toxicity", rise + together, together + rng.normal(scale=0.005, size=16)))
    assert found.changes.low > 0.7
    table = tracing_table(traced("toxicity", rise, together))
    assert tuple(table.columns) == TRACING_COLUMNS
    assert table["step"].tolist() == list(range(16))
    assert correlation_table([found])["n"].tolist() == [16]
    assert "toxicity" in correlation_summary([found])


@pytest.mark.parametrize(("accuracies", "effects"), [([0.5, 0.6, 0.7], [1, 2, 3]), ([0.5] * 6, range(6))])
def test_of_few_or_equal_checkpoints_nothing_can_be_told(accuracies, effects):
    found = correlations(traced("toxicity", accuracies, effects))
    assert "cannot be told" in correlation_summary(found)
    assert (found[0].changes.low, found[0].changes.high) == (-1, 1)


def test_a_champion_of_several_layers_is_not_traced():
    single = served_vector()
    assert require_traceable(Subject(TOXICITY, single, 1.0)) is single
    several = Subject(TOXICITY, served_vector(layer=(0, 1)), 1.0)
    with pytest.raises(InvalidInput, match="steers layers 0-1 and `trace` compares it with the probe of one layer"):
        require_traceable(several)
