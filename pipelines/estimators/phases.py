"""The two phases of pre-training, looked for soundly: a rise of I(T;X) to a peak and a fall from it.

A curve over checkpoints is fitted by least squares with the best rise followed by the best fall; where the two meet is
the change-point, the peak. Any curve has a peak, so three questions follow. Is it one? The share of what no monotone
curve explains that a single peak does, against the same share when the order of the steps is permuted. Where is it?
Its spread over resampled curves. And is it more than the learning rate's warm-up?
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int64

PERMUTATIONS = 500


@dataclass(frozen=True)
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
    p_value: float
    """How often curves in permuted order reach ``explained``."""
    rise: float
    """Mean over layers, from the first checkpoint to the peak, in units of the curve."""
    fall: float
    """Mean over layers, from the peak to the last checkpoint."""
    fall_error: float
    """Its standard error, from resampled statements; not a number where there are none."""

    @property
    def compresses(self) -> bool:
        """Whether the fall is there: the peak is more than order by chance, the fall more than choice of statements."""
        certain = self.fall > 1.96 * self.fall_error if self.fall_error == self.fall_error else self.fall > 0
        return self.p_value < 0.05 and certain


def two_phases(
    steps: Sequence[int],
    curves: Float[np.ndarray, "layers steps"],
    replicates: Float[np.ndarray, "replicates layers steps"] | None = None,
    *,
    seed: int = 0,
    permutations: int = PERMUTATIONS,
) -> TwoPhases:
    """The phases of the curves of some layers.

    ``replicates`` are the same curves on resampled statements, over which the peak's interval is taken; without any,
    layers are resampled instead.
    """
    rng = np.random.default_rng(seed)
    peaks = np.array([peak_index(curve) for curve in curves])
    peak = _majority(peaks)
    if replicates is None:
        spread, error = [_majority(rng.choice(peaks, len(peaks))) for _ in range(1000)], float("nan")
    else:
        spread = [_majority(np.array([peak_index(curve) for curve in one])) for one in replicates]
        error = float((replicates[:, :, peak] - replicates[:, :, -1]).mean(axis=1).std())
    low, high = np.quantile(spread, (0.025, 0.975), method="inverted_cdf")
    explained = _explained(curves)
    chance = [_explained(curves[:, rng.permutation(len(steps))]) for _ in range(permutations)]
    return TwoPhases(
        peak_step=steps[peak],
        peak_low=steps[int(low)],
        peak_high=steps[int(high)],
        layers_agreeing=int((peaks == peak).sum()),
        layers=len(peaks),
        explained=explained,
        p_value=(1 + sum(one >= explained for one in chance)) / (1 + permutations),
        rise=float((curves[:, peak] - curves[:, 0]).mean()),
        fall=float((curves[:, peak] - curves[:, -1]).mean()),
        fall_error=error,
    )


def fitting_p_value(curve: Float[np.ndarray, " steps"], *, seed: int = 0, permutations: int = PERMUTATIONS) -> float:
    """How often a curve in permuted order rises with the steps as steadily as ``curve`` does (Kendall's S)."""
    rng = np.random.default_rng(seed)
    found = _concordance(curve)
    chance = sum(_concordance(rng.permutation(curve)) >= found for _ in range(permutations))
    return (1 + chance) / (1 + permutations)


def peak_index(curve: Float[np.ndarray, " steps"]) -> int:
    """The change-point of the best rise followed by the best fall."""
    return int(np.argmin(_rising_misfits(curve) + _rising_misfits(curve[::-1])[::-1]))


def _majority(peaks: Int64[np.ndarray, " layers"]) -> int:
    counts = Counter(peaks.tolist())
    return int(min(counts, key=lambda peak: (-counts[peak], peak)))


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


def _concordance(curve: Float[np.ndarray, " steps"]) -> int:
    """Pairs of steps over which the curve rises, minus those over which it falls."""
    return int(np.sign(np.subtract.outer(curve, curve)[np.tril_indices(len(curve), -1)]).sum())
