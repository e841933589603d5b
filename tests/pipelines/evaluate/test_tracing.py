import numpy as np
import pytest

from pipelines.estimators.estimate import Estimate
from pipelines.evaluate.tracing import TracedCheckpoint, correlation_summary, correlation_table, correlations, pearson


def fisher(r, n):
    spread = 1.959964 / np.sqrt(n - 3)
    return np.tanh(np.arctanh(r) - spread), np.tanh(np.arctanh(r) + spread)


def test_the_interval_is_fishers_as_for_the_papers_figure_5(rng):
    x = rng.normal(size=17)
    y = 0.7 * x + rng.normal(size=17)
    r, low, high = pearson(x, y)
    assert r == pytest.approx(np.corrcoef(x, y)[0, 1])
    assert (low, high) == pytest.approx(fisher(r, 17), abs=1e-6)
    assert fisher(0.7161, 17) == pytest.approx((0.36, 0.89), abs=0.01)


def traced(dimension, accuracies, effects):
    return [
        TracedCheckpoint(dimension, step, 2, Estimate(x, x, x, 50), Estimate(y, y, y, 50))
        for step, (x, y) in enumerate(zip(accuracies, effects, strict=True))
    ]


def test_what_is_only_later_is_better_shows_in_the_later_half(rng):
    rise = np.concatenate([np.linspace(0.5, 0.9, 8), np.full(8, 0.9)])
    noise, other = rng.normal(scale=0.01, size=(2, 16))
    found = correlations(traced("toxicity", rise + noise, 3 * rise + other))
    whole, later = found
    assert (whole.checkpoints, whole.n, later.checkpoints, later.n) == ("all", 16, "later half", 8)
    assert whole.low > 0.8
    assert later.low < 0 < later.high
    assert correlation_table(found)["n"].tolist() == [16, 8]
    assert "toxicity" in correlation_summary(found)


def test_too_few_or_equal_checkpoints_have_no_correlation():
    assert correlations(traced("toxicity", [0.5, 0.6, 0.7], [1, 2, 3])) == []
    assert correlations(traced("toxicity", [0.5] * 6, range(6))) == []
