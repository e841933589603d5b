"""Calibration of the information estimators on the user's own statements: labels flipped by a known share.

The activations of the last checkpoint at the layer that curves are drawn of are kept, so nothing is read anew.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import logit

from pipelines.cli.columns import name_width
from pipelines.estimators.estimate import Estimate, GroupBootstrap
from pipelines.estimators.label_noise import expected_bits, expected_nhsic, flipped, passed_bits
from pipelines.estimators.linear_probe import probe_layer
from pipelines.estimators.mutual_information import neighbour_information_bits
from pipelines.estimators.nhsic import choose_landmarks, kernel_factors, label_factor, nhsic, standardised
from pipelines.estimators.v_information import label_entropy_bits, usable_information
from pipelines.information.options import InformationSettings
from pipelines.information.result import InformationResult
from pipelines.information.store import InformationStore
from pipelines.statements.labelled import LabelledStatements
from pipelines.sweep.folds import cross_validation

FLIPPED_SHARES = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5)


@dataclass(frozen=True)
class FlippedLabels:
    """What each estimator says where a share of the labels is flipped, beside what it must say."""

    share: float
    bits: Estimate
    """Usable information, held out."""
    expected_bits: float
    """Of the predictions without flips, had they known the share."""
    passed_bits: float
    """What perfect predictions would have: ``1 - H(p)`` for balanced classes."""
    neighbour_bits: float
    nhsic_ty: float
    expected_nhsic_ty: float

    @property
    def follows(self) -> bool:
        """Whether the interval of the bits holds what they must be."""
        return self.bits.low <= self.expected_bits <= self.bits.high


@dataclass(frozen=True)
class InformationCalibration:
    """The estimators of one dimension at one checkpoint and layer, by share of flipped labels."""

    result: InformationResult
    layer: int
    points: tuple[FlippedLabels, ...]

    @property
    def following(self) -> int:
        """At how many of the shares the bits are what they must be; without flips they are so by definition."""
        return sum(point.follows for point in self.points if point.share > 0)


def calibrate_information(
    result: InformationResult, statements: LabelledStatements, store: InformationStore, settings: InformationSettings
) -> InformationCalibration:
    """Measure ``result``'s kept layer again, once for each share of flipped labels."""
    features = store.states(result.digest)
    splits = cross_validation(statements, (settings.seed,))
    rows = splits.test_rows
    bootstrap = GroupBootstrap(statements.groups[rows], fitted=True)
    landmarks = choose_landmarks(statements.n, settings.landmarks, settings.seed)
    (kernel,) = kernel_factors(standardised(features), landmarks)
    unflipped, certain = nhsic(kernel, label_factor(statements.labels)), np.empty(0)
    points = []
    for share in FLIPPED_SHARES:
        labels = flipped(statements.labels, share, seed=settings.seed)
        (probe,) = probe_layer(features, labels, splits.folds, tested=splits.tested)
        certain = probe.probabilities if share == 0 else certain
        seen, logits = labels[rows], logit(probe.probabilities.clip(1e-6, 1 - 1e-6))
        points.append(
            FlippedLabels(
                share=share,
                bits=bootstrap.mean(usable_information(seen, probe.probabilities)),
                expected_bits=expected_bits(statements.labels[rows], certain, share, label_entropy_bits(seen)),
                passed_bits=passed_bits(statements.labels[rows], share),
                neighbour_bits=neighbour_information_bits(logits, seen, seed=settings.seed),
                nhsic_ty=nhsic(kernel, label_factor(labels)),
                expected_nhsic_ty=expected_nhsic(kernel, unflipped, share),
            )
        )
    return InformationCalibration(result, result.transferable.layer, tuple(points))


def calibration_lines(calibrations: Sequence[InformationCalibration]) -> str:
    """One line per dimension, to be printed: bits by share of flipped labels, and what they must be."""
    first, name = calibrations[0], name_width(calibration.result.dimension for calibration in calibrations)
    lines = [
        f"Calibration: bits at {first.result.checkpoint.caption}, layer {first.layer}, where a share of the labels is "
        "flipped / what they must be;",
        "follows: at how many of these shares the interval holds it",
        f"{'dimension':<{name}}" + "".join(f" {point.share:>12.0%}" for point in first.points) + "  follows",
    ]
    for calibration in calibrations:
        cells = "".join(f" {point.bits.value:>z6.3f}/{point.expected_bits:<5.3f}" for point in calibration.points)
        follows = f"{calibration.following} of {len(calibration.points) - 1}"
        lines.append(f"{calibration.result.dimension:<{name}}{cells}  {follows}")
    return "\n".join(["", *lines])
