"""Correlations and onsets over checkpoints that have nothing to tell."""

from collections.abc import Callable, Iterator

import numpy as np

from pipelines.estimators.dynamics import change_correlation, onset
from pipelines.estimators.estimate import GroupBootstrap
from tests.simulate.table import Row

CORRELATED_STEPS = (8, 12, 18)
Draw = Callable[[np.random.Generator, int], np.ndarray]


def _wandering(persistence: float) -> Draw:
    def draw(rng: np.random.Generator, n: int) -> np.ndarray:
        values = rng.normal(size=n)
        for step in range(1, n):
            values[step] += persistence * values[step - 1]
        return values

    return draw


def _saturating(noise: float) -> Draw:
    return lambda rng, n: 1 - np.exp(-np.arange(n) / rng.uniform(1, 4)) + noise * rng.normal(size=n)


UNRELATED: dict[str, Draw] = {
    "white noise": _wandering(0.0),
    "AR(1) .7": _wandering(0.7),
    "random walks": _wandering(1.0),
    "saturating rises, 15 % noise": _saturating(0.15),
    "saturating rises, 5 % noise": _saturating(0.05),
}


def correlation_error(kind: str, n: int, trials: int) -> float:
    """How often the interval of two unrelated curves excludes 0."""
    rng, draw = np.random.default_rng(n), UNRELATED[kind]
    found = [change_correlation(draw(rng, n), draw(rng, n)) for _ in range(trials)]
    return float(np.mean([each.low > 0 or each.high < 0 for each in found]))


def correlation_power(n: int, shared: float, trials: int) -> float:
    """Two random walks, ``shared`` of whose increments' variance is common."""
    rng = np.random.default_rng(n)
    hits = 0
    for _ in range(trials):
        common, first, second = rng.normal(size=(3, n))
        walks = [np.cumsum(shared**0.5 * common + (1 - shared) ** 0.5 * own) for own in (first, second)]
        hits += change_correlation(*walks).low > 0
    return hits / trials


def onset_error(steps: int, layers: int, trials: int, bits: float = 0.0) -> float:
    """How often any layer has an onset, for usable bits of 120 pairs at random initialisation and ``steps`` more."""
    rng = np.random.default_rng(steps)
    bootstrap = GroupBootstrap(np.repeat(np.arange(120), 2), fitted=True, resamples=300)
    hits = 0
    for _ in range(trials):
        hits += any(_has_onset(rng, bootstrap, steps, layers, bits) for _ in range(layers))
    return hits / trials


def _has_onset(rng: np.random.Generator, bootstrap: GroupBootstrap, steps: int, layers: int, bits: float) -> bool:
    pairs = 0.5 * rng.normal(size=(steps + 1, 120))
    noise = np.repeat(pairs, 2, axis=1) - rng.gamma(0.5, 1.0, size=(steps + 1, 240)) + 0.5
    estimates = [bootstrap.mean(values) for values in noise + bits * (np.arange(steps + 1) > 0)[:, None]]
    return onset(range(steps), estimates[1:], estimates[0], steps * layers) is not None


def rows(scale: float) -> Iterator[Row]:
    for kind in UNRELATED:
        shares = [correlation_error(kind, n, round(3000 * scale)) for n in (6, *CORRELATED_STEPS)]
        measured = " ".join(f"{share:.3f}" for share in shares)
        setting = f"{', '.join(map(str, (6, *CORRELATED_STEPS)))} checkpoints"
        yield Row("checkpoints", f"interval of r excludes 0: {kind}", setting, measured, "≤ .05")
    for shared in (0.5, 0.8):
        shares = [correlation_power(n, shared, round(1000 * scale)) for n in CORRELATED_STEPS]
        measured = " ".join(f"{share:.2f}" for share in shares)
        setting = f"{', '.join(map(str, CORRELATED_STEPS))} checkpoints"
        yield Row("checkpoints", f"power: r of increments {shared}", setting, measured, "")
    for layers in (1, 8):
        share = onset_error(15, layers, round(400 * scale))
        yield Row("checkpoints", "any onset on noise", f"15 steps, {layers} layers", f"{share:.3f}", "≤ .05")
