"""Phases of pre-training, looked for soundly: a rise of I(T;X) to a peak and a fall from it.

A curve over checkpoints is fitted by least squares with the best rise followed by the best fall; where the two meet is
the change-point, the peak. Any curve has a peak, and any that wanders a fall after it, so the fall is tested.

The null is a curve that wanders as this one does: its increments, less what each inherits from the one before, come
with either sign (Pesarin's sign-flip test on a first-order sieve). The statistic is the steadiest fall to the end,
``-Σ d / √Σ d²`` over the last increments, largest over where it may begin: a fall that is made of one drop, or that
noise takes back, is none. Levels of noise need not be estimated, and a random walk is covered exactly; noise about a
plateau, which takes itself back, is covered all the more. Curves that are tested together get the same signs, and the
largest of their statistics corrects for how many they are (Westfall & Young 1993). ``python -m tests.simulate phases``
prints error rates and power. A curve whose increments persist (autocorrelation .5) is beyond what so few checkpoints
can tell: p < .05 in about .13 of such.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int64
from scipy.optimize import brentq

FLIPS = 4095
ALPHA = 0.05
POWER_QUANTILE = 0.8416
"""Of the normal distribution at 80 %."""
LARGEST_PERSISTENCE = 0.9


@dataclass(frozen=True, eq=False)
class TwoPhases:
    """What the curves of one dimension show: one layer's, or several layers' together."""

    peak_step: int
    """Where a rise turns into a fall; of several layers what most say, the earliest of equals."""
    peak_low: int
    peak_high: int
    """The peak's 95 % interval."""
    layers_agreeing: int
    """Layers whose own peak is at ``peak_step``."""
    layers: int
    explained: float
    """Share of the best monotone curve's misfit that a peak removes: 1 for a clean rise and fall."""
    rise: float
    """Mean over layers, from the first checkpoint to the peak, in units of the curve."""
    fall: float
    """Mean over layers, from the peak to the last checkpoint."""
    fall_error: float
    """Its standard error, from resampled statements; not a number where there are none."""
    mean_curve: Float[np.ndarray, " steps"]
    """Mean over layers: what the fall is tested in."""
    p_value: float
    """How often a curve that wanders as this one does falls as steadily."""
    p_adjusted: float
    """The same of the steadiest fall among all curves that were tested with it."""
    detectable_fall: float
    """The smallest steady fall from this peak that such noise lets the test find in 80 %; infinite for none."""

    @property
    def can_be_told(self) -> bool:
        """Whether there are checkpoints enough for any curve to be rare."""
        return bool(2.0 ** -(len(self.mean_curve) - 1) < ALPHA)

    @property
    def compresses(self) -> bool:
        """Whether a fall follows a rise, beyond wandering, other statements, and the number of curves tested."""
        certain = self.fall > 1.96 * self.fall_error if self.fall_error == self.fall_error else self.fall > 0
        return self.p_adjusted < ALPHA and self.rise > 0 and certain


def two_phases(
    steps: Sequence[int],
    curves: Float[np.ndarray, "layers steps"],
    replicates: Float[np.ndarray, "replicates layers steps"] | None = None,
    *,
    seed: int = 0,
) -> TwoPhases:
    """The phases of the curves of some layers, tested by themselves; ``adjusted`` corrects for others.

    ``replicates`` are the same curves on resampled statements, over which the peak's interval is taken; without any,
    layers are resampled instead.
    """
    rng = np.random.default_rng(seed)
    peaks = np.array([peak_index(curve) for curve in curves])
    peak = int(_majorities(peaks[None])[0])
    if replicates is None:
        spread, error = _majorities(rng.choice(peaks, (1000, len(peaks)))), float("nan")
    else:
        spread = _majorities(np.array([[peak_index(curve) for curve in replicate] for replicate in replicates]))
        error = float((replicates[:, :, peak] - replicates[:, :, -1]).mean(axis=1).std())
    low, high = np.quantile(spread, (0.025, 0.975), method="inverted_cdf")
    mean_curve = curves.mean(axis=0)
    observed, null = _steadiest_falls(mean_curve, _signs(len(steps) - 1, seed))
    p_value = _share_reaching(observed, null)
    return TwoPhases(
        peak_step=steps[peak],
        peak_low=steps[int(low)],
        peak_high=steps[int(high)],
        layers_agreeing=int((peaks == peak).sum()),
        layers=len(peaks),
        explained=_explained(curves),
        rise=float((curves[:, peak] - curves[:, 0]).mean()),
        fall=float((curves[:, peak] - curves[:, -1]).mean()),
        fall_error=error,
        mean_curve=mean_curve,
        p_value=p_value,
        p_adjusted=p_value,
        detectable_fall=_detectable_fall(mean_curve, peak, float(np.quantile(null, 1 - ALPHA))),
    )


def adjusted(phases: Sequence[TwoPhases], *, seed: int = 0) -> tuple[TwoPhases, ...]:
    """``phases`` over the same steps, corrected for how many they are, which never lowers a p-value."""
    if not phases:
        return ()
    signs = _signs(len(phases[0].mean_curve) - 1, seed)
    falls = [_steadiest_falls(phase.mean_curve, signs) for phase in phases]
    largest = np.max([null for _, null in falls], axis=0)
    return tuple(
        replace(phase, p_adjusted=_share_reaching(observed, largest))
        for phase, (observed, _) in zip(phases, falls, strict=True)
    )


def fitting_p_value(curve: Float[np.ndarray, " steps"], *, seed: int = 0) -> float:
    """How often a curve that wanders as ``curve`` does rises as steadily from its first checkpoint on."""
    return _share_reaching(*_steadiest_falls(curve[::-1], _signs(len(curve) - 1, seed)))


def peak_index(curve: Float[np.ndarray, " steps"]) -> int:
    """The change-point of the best rise followed by the best fall."""
    return int(np.argmin(_rising_misfits(curve) + _rising_misfits(curve[::-1])[::-1]))


def _signs(increments: int, seed: int) -> Float[np.ndarray, "flips increments"]:
    """All of them where they are few; the observed curve's own come first."""
    if 2**increments <= FLIPS + 1:
        rows = (np.arange(2**increments)[:, None] >> np.arange(increments)) & 1
        return 1.0 - 2.0 * rows
    drawn = np.random.default_rng(seed).choice((-1.0, 1.0), (FLIPS + 1, increments))
    drawn[0] = 1.0
    return drawn


def _steadiest_falls(
    curve: Float[np.ndarray, " steps"], signs: Float[np.ndarray, "flips increments"]
) -> tuple[float, Float[np.ndarray, " flips"]]:
    """The statistic of ``curve`` and that of every flipped one, itself among them."""
    increments = np.diff(curve)
    persistence = _persistence(increments)
    innovations = increments.copy()
    innovations[1:] -= persistence * increments[:-1]
    innovations[:1] *= (1 - persistence**2) ** 0.5
    flipped = signs * innovations
    flipped[:, :1] /= (1 - persistence**2) ** 0.5
    for step in range(1, len(increments)):
        flipped[:, step] += persistence * flipped[:, step - 1]
    null = _steadiness(flipped)
    return float(null[0]), null


def _steadiness(increments: Float[np.ndarray, "curves increments"]) -> Float[np.ndarray, " curves"]:
    if increments.shape[1] == 0:
        return np.zeros(len(increments))
    backwards = increments[:, ::-1]
    lengths = np.sqrt(np.cumsum(np.square(backwards), axis=1))
    falls = -np.cumsum(backwards, axis=1) / np.where(lengths > 0, lengths, np.inf)
    result: Float[np.ndarray, " curves"] = falls.max(axis=1)
    return result


def _share_reaching(observed: float, null: Float[np.ndarray, " flips"]) -> float:
    return float(np.mean(null >= observed - 1e-9))


def _persistence(increments: Float[np.ndarray, " increments"]) -> float:
    """First-order autocorrelation about the best two levels, its bias taken off (Kendall 1954), never negative."""
    n = len(increments)
    splits = [(increments[:k] - increments[:k].mean(), increments[k:] - increments[k:].mean()) for k in range(2, n - 1)]
    if not splits:
        return 0.0
    residuals = min((np.concatenate(parts) for parts in splits), key=lambda parts: float(parts @ parts))
    if residuals @ residuals <= 1e-12 * (increments @ increments):
        return 0.0
    found = float(residuals[1:] @ residuals[:-1] / (residuals @ residuals))
    return float(np.clip(found + (1 + 4 * found) / n, 0, LARGEST_PERSISTENCE))


def _detectable_fall(curve: Float[np.ndarray, " steps"], peak: int, critical: float) -> float:
    """Of ``m`` even steps down with noise in each, ``F / √(F² / m + m s²)`` must pass ``critical`` in 80 %."""
    m = len(curve) - 1 - peak
    if m < 2 or critical**2 >= m:
        return float("inf")
    spread = float(np.diff(curve[peak:]).std(ddof=1))
    if spread == 0:
        return 0.0

    def lacking(fall: float) -> float:
        length = math.sqrt(fall**2 / m + m * spread**2)
        return (fall - POWER_QUANTILE * spread * math.sqrt(m)) / length - critical

    highest = spread * m
    while lacking(highest) < 0 and highest < 1e6 * spread * m:
        highest *= 2
    return float(brentq(lacking, 0, highest)) if lacking(highest) >= 0 else float("inf")


def _majorities(peaks: Int64[np.ndarray, "samples layers"]) -> Int64[np.ndarray, " samples"]:
    """The peak that most layers of each sample have; the first of several."""
    width = peaks.max() + 1
    places = np.arange(len(peaks))[:, None] * width + peaks
    counts = np.bincount(places.ravel(), minlength=len(peaks) * width).reshape(len(peaks), width)
    most: Int64[np.ndarray, " samples"] = counts.argmax(axis=1)
    return most


def _explained(curves: Float[np.ndarray, "layers steps"]) -> float:
    monotone = peaked = 0.0
    for curve in curves:
        rising, falling = _rising_misfits(curve), _rising_misfits(curve[::-1])[::-1]
        monotone += min(rising[-1], falling[0])
        peaked += float((rising + falling).min())
    return 1 - peaked / monotone if monotone > 0 else 0.0


def _rising_misfits(curve: Float[np.ndarray, " steps"]) -> Float[np.ndarray, " steps"]:
    """The squared misfit of the best rising curve through the first 1, 2, … values (pool adjacent violators)."""
    blocks: list[tuple[float, int, float]] = []
    misfits = []
    for value in curve.tolist():
        total, count, squares = value, 1, value * value
        while blocks and blocks[-1][0] / blocks[-1][1] > total / count:
            before = blocks.pop()
            total, count, squares = total + before[0], count + before[1], squares + before[2]
        blocks.append((total, count, squares))
        misfits.append(sum(squares - total * total / count for total, count, squares in blocks))
    return np.array(misfits).clip(min=0)
