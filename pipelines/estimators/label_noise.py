"""Label noise: labels of which a known share is flipped, and what each estimator must then say.

Flipping a share ``p`` of labels is a channel that passes at most ``1 - H(p)`` bits of a balanced label (Shannon 1948).
"""

import numpy as np
from jaxtyping import Bool, Float

from pipelines.estimators.nhsic import SHARE, KernelFactor
from pipelines.estimators.scores import SMALLEST_PROBABILITY
from pipelines.estimators.v_information import label_entropy_bits


def flipped(labels: Bool[np.ndarray, " n"], share: float, *, seed: int) -> Bool[np.ndarray, " n"]:
    """``labels`` with ``share`` of each class turned around, so that balanced classes stay so."""
    rng, result = np.random.default_rng(seed), labels.copy()
    for kind in (False, True):
        rows = np.flatnonzero(labels == kind)
        result[rng.permutation(rows)[: round(share * len(rows))]] = not kind
    return result


def noise_entropy_bits(share: float) -> float:
    """``H(p)``."""
    return -sum(part * float(np.log2(part)) for part in (share, 1 - share) if part > 0)


def passed_bits(labels: Bool[np.ndarray, " n"], share: float) -> float:
    """What knows the labels themselves knows of flipped ones: ``1 - H(p)`` for balanced classes."""
    return label_entropy_bits(flipped(labels, share, seed=0)) - noise_entropy_bits(share)


def expected_bits(
    labels: Bool[np.ndarray, " n"], probabilities: Float[np.ndarray, " n"], share: float, entropy: float
) -> float:
    """Usable information about flipped labels, of predictions that know of the flips and are else ``probabilities``.

    ``entropy`` is that of the flipped labels. Where every prediction is right and certain, this is ``passed_bits``.
    """
    right = np.where(labels, probabilities, 1 - probabilities)
    softened = (share + (1 - 2 * share) * right).clip(SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY)
    surprise = -(1 - share) * np.log2(softened) - share * np.log2(1 - softened)
    return entropy - float(surprise.mean())


def expected_nhsic(factor: KernelFactor, unflipped: float, share: float) -> float:
    """nHSIC with flipped labels: it is a ridge regression's R², which shrinks as the squared correlation of labels,
    beside what the kernel fits of the flips alone."""
    kept = (1 - 2 * share) ** 2
    return kept * unflipped + (1 - kept) * float(factor.weights.sum()) / (factor.n * (1 + SHARE))
