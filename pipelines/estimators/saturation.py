"""Saturation: what still tells probes apart when their accuracy is 1.00.

Distances are those of held-out statements to the plane of the probe that did not see them, in units of the layer's
root mean square activation, positive on the trustworthy side. All three measures come from them or from the held-out
probabilities; nothing is fitted or drawn.

* Margin: the mean distance on the side of the label, over the standard deviation within classes. Two Gaussians that lie
  d' apart have d' / 2.
* Fragility: the standard deviation of Gaussian noise, added to every activation, at which held-out accuracy falls to
  .75. Noise of deviation s moves the score of a statement at distance d across the plane with probability Φ(-d / s), so
  expected accuracy is the mean of Φ(d / s): no noise is drawn.
* TPR at 1 % FPR: the share of trustworthy statements above all but 1 % of the untrustworthy (Carlini et al. 2022 on why
  averages hide this). One per cent of fewer than 100 statements is none.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64
from scipy.special import ndtr, ndtri
from scipy.stats import binom

from pipelines.estimators.estimate import CONFIDENCE, ROUNDING, Estimate, GroupBootstrap, mean_of_first

FALLEN = 0.75
"""Accuracy half-way between perfect and chance."""
FALSE_POSITIVES = 0.01
FEWEST_NEGATIVES = 100
GRID, LEAST_NOISE, HALVINGS = 32, 1e-4, 30
CANNOT_BE_TOLD = "cannot be told"


@dataclass(frozen=True)
class Saturation:
    """Margin, fragility and TPR at 1 % FPR; ``None`` is what cannot be told."""

    margin: Estimate | None
    """``None`` where distances do not vary, as under equal activations."""
    fragility: Estimate | None
    """In root mean squares of the activations; ``None`` where accuracy is .75 or less without noise."""
    tpr: Estimate | None
    """``None`` for fewer than 100 untrustworthy statements."""


def saturation(
    distances: Float[np.ndarray, "seeds n"],
    probabilities: Float[np.ndarray, "seeds n"],
    labels: Bool[np.ndarray, " n"],
    groups: Int64[np.ndarray, " n"],
) -> Saturation:
    """The three measures of one probe, each statement counting once with its mean over seeds."""
    bootstrap = GroupBootstrap(groups, fitted=True)
    toward = np.where(labels, distances, -distances).astype(np.float64)
    return Saturation(
        margin=_margin(toward, labels, bootstrap),
        fragility=_fragility(toward, bootstrap),
        tpr=_tpr(np.asarray(probabilities, np.float64), labels, groups),
    )


def _margin(
    toward: Float64[np.ndarray, "seeds n"], labels: Bool[np.ndarray, " n"], bootstrap: GroupBootstrap
) -> Estimate | None:
    mean = float(toward.mean())
    squares = np.square(toward - np.where(labels, toward[:, labels].mean(), toward[:, ~labels].mean()))
    variance = float(squares.mean())
    if not variance > ROUNDING * float(np.square(toward).mean()):
        return None
    margin = mean / variance**0.5
    influences = (toward - mean) / variance**0.5 - margin * (squares - variance) / (2 * variance)
    return bootstrap.mean(margin + influences.mean(axis=0))


def _fragility(toward: Float64[np.ndarray, "seeds n"], bootstrap: GroupBootstrap) -> Estimate | None:
    noise = _noise_at(toward, FALLEN)
    if noise is None:
        return None
    # Values whose mean is the noise, and whose scatter is its uncertainty: each statement's excess over the slope.
    slope = float((_density(toward / noise) * toward).mean()) / noise**2
    influences = (ndtr(toward / noise) - FALLEN).mean(axis=0) / slope
    return bootstrap.statistic((noise + influences)[:, None], mean_of_first, bounds=(0.0, np.inf))


def _noise_at(toward: Float64[np.ndarray, "seeds n"], accuracy: float) -> float | None:
    """The least noise at which expected accuracy is ``accuracy``, by bisection; ``None`` where none is needed."""
    if not float((toward > 0).mean()) > accuracy:
        return None
    # At the highest noise even the farthest statement is right less often than that.
    highest = 1.01 * float(toward.max()) / float(ndtri(accuracy))
    tried = np.geomspace(LEAST_NOISE * highest, highest, GRID)
    below = next(place for place, noise in enumerate(tried) if _accuracy(toward, noise) < accuracy)
    low, high = (float(tried[below - 1]) if below else 0.0), float(tried[below])
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if _accuracy(toward, middle) >= accuracy else (low, middle)
    return high


def _accuracy(toward: Float64[np.ndarray, "seeds n"], noise: float) -> float:
    return float(ndtr(toward / noise).mean())


def _tpr(
    probabilities: Float64[np.ndarray, "seeds n"], labels: Bool[np.ndarray, " n"], groups: Int64[np.ndarray, " n"]
) -> Estimate | None:
    """The threshold is estimated too, so the interval reaches from the strictest threshold that may have 1 % in truth
    to the laxest. Of fewer than 368 independent statements none need lie above it, and the lower end is 0."""
    negatives, n_groups = int((~labels).sum()), len(np.unique(groups[~labels]))
    if negatives < FEWEST_NEGATIVES:
        return None
    bootstrap = GroupBootstrap(groups[labels], fitted=True)
    fewest, most = (int(np.ceil(share * negatives)) for share in _false_positives(n_groups))
    found, laxest = (
        bootstrap.proportion(_above(probabilities, labels, allowed))
        for allowed in (int(FALSE_POSITIVES * negatives), most)
    )
    low = bootstrap.proportion(_above(probabilities, labels, fewest - 1)).low if fewest else 0.0
    return Estimate(found.value, low, laxest.high, found.n)


@lru_cache(maxsize=64)
def _false_positives(n_groups: int) -> tuple[float, float]:
    """Between which shares of ``n_groups`` independent statements as many lie as of a population 1 % do."""
    tail = (1 - CONFIDENCE) / 2
    low, high = (float(binom.ppf(share, n_groups, FALSE_POSITIVES)) / n_groups for share in (tail, 1 - tail))
    return low, high


def _above(
    probabilities: Float64[np.ndarray, "seeds n"], labels: Bool[np.ndarray, " n"], allowed: int
) -> Float64[np.ndarray, " positives"]:
    """How often over seeds each trustworthy statement lies above all but ``allowed`` of the others."""
    others = np.sort(probabilities[:, ~labels], axis=1)
    above: Float64[np.ndarray, " positives"] = (
        (probabilities[:, labels] > others[:, [-1 - allowed]]).mean(axis=0).astype(np.float64)
    )
    return above


def _density(scores: Float64[np.ndarray, "seeds n"]) -> Float64[np.ndarray, "seeds n"]:
    density: Float64[np.ndarray, "seeds n"] = np.exp(-np.square(scores) / 2) / np.sqrt(2 * np.pi)
    return density
