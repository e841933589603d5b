"""Correlations and onsets over checkpoints that have nothing to tell."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from pipelines.estimators.dynamics import change_correlation
from pipelines.estimators.estimate import Estimate, GroupBootstrap
from pipelines.estimators.onsets import lost_after, onset_above
from pipelines.estimators.preference import preference_shift
from pipelines.probe.onsets import is_steerable, is_used
from pipelines.probe.preferences import RANDOM_DIRECTIONS, SteeredPreference
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
    return onset_above(range(steps), estimates[1:], estimates[0], steps * layers).step is not None


def used_onsets(steps: int, pairs: int, share: float, trials: int) -> float:
    """How often any of ``steps`` is used, where each pair is preferred with chance ``share``; one half at first."""
    rng = np.random.default_rng(steps)
    bootstrap = GroupBootstrap(np.arange(pairs))

    def preferred(chance: float) -> Estimate:
        return bootstrap.proportion((rng.random(pairs) < chance).astype(float))

    hits = 0
    for _ in range(trials):
        initial = preferred(0.5)
        hits += any(is_used(preferred(share), initial, steps) for _ in range(steps))
    return hits / trials


def lost_onsets(steps: int, pairs: int, shares: Sequence[float], trials: int) -> float:
    """How often *used* is called lost, where each step prefers its pairs with chance ``shares``; one half at first."""
    rng = np.random.default_rng(steps)
    bootstrap = GroupBootstrap(np.arange(pairs))
    hits = 0
    for _ in range(trials):
        initial, *estimates = (
            bootstrap.proportion((rng.random(pairs) < chance).astype(float)) for chance in (0.5, *shares)
        )
        holds = [is_used(estimate, initial, steps) for estimate in estimates]
        hits += lost_after(estimates, holds) is not None
    return hits / trials


def steerable_onsets(steps: int, pairs: int, trials: int, planted: float = 0.0) -> float:
    """How often any of ``steps`` is steerable by a random direction, or by one that is ``planted`` along the effect.

    Likelihoods are linear in what is added: one direction moves all pairs alike, others each statement by itself.
    """
    rng, d = np.random.default_rng(pairs), 64
    labels, groups = np.tile([True, False], pairs), np.repeat(np.arange(pairs), 2)
    hits = 0
    for _ in range(trials):
        hits += any(_is_steerable(rng, labels, groups, d, planted, steps) for _ in range(steps))
    return hits / trials


def _is_steerable(
    rng: np.random.Generator, labels: np.ndarray, groups: np.ndarray, d: int, planted: float, steps: int
) -> bool:
    common = rng.normal(size=d)
    slopes = np.where(labels, 0.5, -0.5)[:, None] * common + rng.normal(size=(len(labels), d))
    drawn = rng.normal(size=(1 + RANDOM_DIRECTIONS, d))
    drawn[0] += planted * common
    unit = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    before = rng.normal(-40, 10, size=len(labels))
    shift = preference_shift(before, before + slopes @ unit[0], labels, groups)
    moved = slopes @ unit[1:].T
    random = tuple((moved[labels].mean(axis=0) - moved[~labels].mean(axis=0)).tolist())
    return is_steerable(SteeredPreference(shift, random), steps)


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
    for share, required in ((0.5, "≤ .05"), (0.7, "")):
        found = used_onsets(15, 120, share, round(400 * scale))
        what = "any use on noise" if share == 0.5 else f"power: {share:.0%} of pairs preferred"
        yield Row("checkpoints", what, "15 steps, 120 pairs", f"{found:.3f}", required)
    courses = {"60 %": (0.6,) * 15, "70 %": (0.7,) * 15, "80 % of 8 steps, then half": (*(0.8,) * 8, *(0.5,) * 7)}
    for preferred, shares in courses.items():
        found, falls = lost_onsets(15, 120, shares, round(400 * scale)), len(set(shares)) > 1
        what = "power: a fall is told" if falls else "an onset that lasts is called lost"
        yield Row(
            "checkpoints",
            f"{what}: pairs preferred {preferred}",
            "15 steps, 120 pairs",
            f"{found:.3f}",
            "" if falls else "≤ .05",
        )
    for planted, required in ((0.0, "≤ .05"), (1.0, "")):
        found = steerable_onsets(15, 40, round(200 * scale), planted)
        what = "power: half of a vector's square along the effect" if planted else "any random direction steers"
        yield Row("checkpoints", what, "15 steps, 40 pairs", f"{found:.3f}", required)
