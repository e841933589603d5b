"""Tables of the information experiment."""

from collections.abc import Iterable

import pandas as pd

from pipelines.estimators.onsets import Onset
from pipelines.estimators.phases import TwoPhases
from pipelines.information.calibration import InformationCalibration
from pipelines.information.options import InformationSettings
from pipelines.information.result import InformationResult, LayerInformation
from pipelines.information.trajectory import Trajectory
from pipelines.information.transfer import Transfer
from pipelines.sweep.unit import points_along
from pipelines.tracking.checkpoints import checkpoint_columns, checkpoint_table

INFORMATION_COLUMNS = checkpoint_columns(
    "dimension", "layer", "estimator", "nhsic_xt", "nhsic_ty", "null_xt", "null_ty",
    "v_information_bits", "effective_rank", "n", "seed",
    "v_information_low", "v_information_high", "conditional_bits", "conditional_low", "conditional_high",
    "neighbour_bits", "n_test", "nhsic_xt_error", "nhsic_ty_error", "null_mean_xt", "null_mean_ty", "nhsic_tt",
    "hsic_xt", "hsic_ty", "cka_xt", "cka_ty", "rankme", "alpha_req", "participation_ratio", "landmarks", "captured",
)  # fmt: skip
"""``null_xt`` and ``null_ty`` are 95 % quantiles for permuted statements; ``…_error`` are standard errors."""

BANDWIDTH_COLUMNS = checkpoint_columns(
    "dimension", "layer", "scale", "bandwidth", "nhsic_xt", "nhsic_ty", "nhsic_tt", "n",
)  # fmt: skip

PHASE_COLUMNS = (
    "model", "dimension", "estimator", "quantity", "layer", "peak_step", "peak_low", "peak_high", "layers_agreeing",
    "layers", "rise", "fall", "fall_error", "detectable_fall", "explained", "p_value",
    "p_adjusted", "compresses", "warmup_steps", "inside_warmup",
    "rank_correlation", "rank_correlation_low", "rank_correlation_high", "checkpoints", "n", "seed",
)  # fmt: skip

DYNAMICS_COLUMNS = (
    "model", "dimension", "layer", "onset_step", "onset_lasts", "onset_lost_step", "onset_beyond_ngrams",
    "beyond_ngrams_lasts", "beyond_ngrams_lost_step", "rise_95_step", "fitting_p", "init_bits", "init_low", "init_high",
    "last_bits", "last_low", "last_high", "last_conditional_bits", "last_conditional_low", "last_conditional_high",
    "n_test", "seed",
)  # fmt: skip

DYNAMICS_STEPS = (
    "onset_step", "onset_lost_step", "onset_beyond_ngrams", "beyond_ngrams_lost_step", "rise_95_step",
)  # fmt: skip

CALIBRATION_COLUMNS = checkpoint_columns(
    "dimension", "layer", "flipped", "bits", "bits_low", "bits_high", "expected_bits",
    "passed_bits", "follows", "neighbour_bits", "nhsic_ty", "expected_nhsic_ty", "n", "seed",
)  # fmt: skip

TRANSFER_COLUMNS = (
    "model", "dimension", "layer", "fitted", "applied", "fitted_step", "applied_step", "accuracy", "recentred",
    "cosine", "n", "accuracy_low", "accuracy_high", "own_accuracy", "recentred_low", "recentred_high", "own_recentred",
    "reliability_fitted", "reliability_applied", "ceiling", "cosine_disjoint", "cosine_disjoint_low",
    "cosine_disjoint_high", "another_direction",
)  # fmt: skip
"""``own_accuracy`` is that of the probes fitted where they are applied, the ceiling of transfer; ``ceiling`` that of a
cosine of directions so reliable; ``cosine_disjoint`` is their cosine where they share no statement. ``fitted`` and
``applied`` are checkpoints by stage and step."""


def information_table(results: Iterable[InformationResult], settings: InformationSettings) -> pd.DataFrame:
    """``information.csv``: a row for every checkpoint, dimension, layer and estimator."""
    rows = [
        (
            result.checkpoint,
            (result.dimension, point.layer, estimator, *_numbers(result, point, estimator, settings)),
        )
        for result in results
        for point in result.points
        for estimator in point.xt
    ]
    return checkpoint_table(rows, INFORMATION_COLUMNS)


def _numbers(
    result: InformationResult, point: LayerInformation, estimator: str, settings: InformationSettings
) -> tuple[object, ...]:
    xt, ty, bits, beyond, spectrum = point.xt[estimator], point.ty, point.bits, point.conditional_bits, point.spectrum
    paper = settings.is_paper
    return (
        *(xt.nhsic, ty.nhsic, xt.null, ty.null, bits.value, spectrum.effective_rank, result.n, result.seed),
        *(bits.low, bits.high, beyond.value, beyond.low, beyond.high, point.neighbour_bits, bits.n),
        *(xt.standard_error, ty.standard_error, xt.null_mean, ty.null_mean, point.tt),
        *(xt.hsic, ty.hsic, xt.cka, ty.cka),
        *(spectrum.rankme, spectrum.alpha_req, spectrum.participation_ratio),
        result.n if paper or not settings.landmarks else min(settings.landmarks, result.n),
        point.captured,
    )


def bandwidth_table(results: Iterable[InformationResult]) -> pd.DataFrame:
    """``bandwidths.csv``: nHSIC at multiples of the median bandwidth, X of the same checkpoint."""
    rows = [
        (
            result.checkpoint,
            (
                *(result.dimension, point.layer),
                *(swept.scale, swept.bandwidth, swept.xt, swept.ty, swept.tt, result.n),
            ),
        )
        for result in results
        for point in result.points
        for swept in point.swept
    ]
    return checkpoint_table(rows, BANDWIDTH_COLUMNS)


def phase_table(trajectories: Iterable[Trajectory], warmup_steps: int | None) -> pd.DataFrame:
    """``phases.csv``: the peak and the fall of every curve; ``layer`` is empty for all layers together."""
    rows = []
    for trajectory in trajectories:
        model, n, seed = trajectory.initial.checkpoint.model, trajectory.initial.n, trajectory.initial.seed
        for phase in trajectory.phases:
            shape, alike = phase.shape, phase.rank_correlation
            rows.append(
                (
                    *(model, trajectory.dimension, phase.estimator, phase.quantity, phase.layer),
                    *(shape.peak_step, shape.peak_low, shape.peak_high, shape.layers_agreeing, shape.layers),
                    *(shape.rise, shape.fall, shape.fall_error, shape.detectable_fall, shape.explained),
                    *(shape.p_value, shape.p_adjusted, shape.compresses),
                    *(warmup_steps, inside_warmup(shape, warmup_steps), alike.value, alike.low, alike.high),
                    *(len(points_along(trajectory.trained)), n, seed),
                )
            )
    table = pd.DataFrame(rows, columns=list(PHASE_COLUMNS))
    return table.astype({"layer": "Int64", "warmup_steps": "Int64"})


def inside_warmup(shape: TwoPhases, warmup_steps: int | None) -> str:
    """Whether the peak lies inside the learning rate's warm-up: yes or no where its whole interval does."""
    if warmup_steps is None:
        return "unknown"
    if shape.peak_high <= warmup_steps:
        return "yes"
    return "no" if shape.peak_low > warmup_steps else "unclear"


def dynamics_table(trajectories: Iterable[Trajectory]) -> pd.DataFrame:
    """``dynamics.csv``: when each layer becomes readable, and how far it comes."""
    rows = []
    for trajectory in trajectories:
        for dynamics in trajectory.dynamics:
            initial, last = (result.point(dynamics.layer) for result in (trajectory.initial, trajectory.trained[-1]))
            beyond = last.conditional_bits
            rows.append(
                (
                    *(trajectory.initial.checkpoint.model, trajectory.dimension, dynamics.layer),
                    *_onset_cells(dynamics.onset),
                    *_onset_cells(dynamics.onset_beyond_ngrams),
                    *(dynamics.rise_95, dynamics.fitting_p),
                    *(initial.bits.value, initial.bits.low, initial.bits.high),
                    *(last.bits.value, last.bits.low, last.bits.high),
                    *(beyond.value, beyond.low, beyond.high, last.bits.n, trajectory.initial.seed),
                )
            )
    table = pd.DataFrame(rows, columns=list(DYNAMICS_COLUMNS))
    return table.astype({name: "Int64" for name in DYNAMICS_STEPS})


def _onset_cells(onset: Onset) -> tuple[object, ...]:
    return onset.step, onset.lasts, onset.lost


def calibration_table(calibrations: Iterable[InformationCalibration]) -> pd.DataFrame:
    """``information_calibration.csv``: every estimator where a known share of the labels is flipped."""
    rows = [
        (
            calibration.result.checkpoint,
            (
                *(calibration.result.dimension, calibration.layer, point.share),
                *(point.bits.value, point.bits.low, point.bits.high),
                *(point.expected_bits, point.passed_bits, point.follows, point.neighbour_bits),
                *(point.nhsic_ty, point.expected_nhsic_ty, point.bits.n, calibration.result.seed),
            ),
        )
        for calibration in calibrations
        for point in calibration.points
    ]
    return checkpoint_table(rows, CALIBRATION_COLUMNS)


def transfer_table(trajectories: Iterable[Trajectory]) -> pd.DataFrame:
    """``transfer.csv``: every checkpoint's probes on every checkpoint's activations, and their directions' likeness."""
    rows = [
        (
            *(trajectory.initial.checkpoint.model, trajectory.dimension, trajectory.transfer.layer),
            *(fitted.label, applied.label, fitted.step, applied.step),
            *_transfer_cells(trajectory.transfer, row, column),
        )
        for trajectory in trajectories
        for row, fitted in enumerate(trajectory.checkpoints)
        for column, applied in enumerate(trajectory.checkpoints)
    ]
    return pd.DataFrame(rows, columns=list(TRANSFER_COLUMNS))


def _transfer_cells(transfer: Transfer, row: int, column: int) -> tuple[object, ...]:
    (accuracy, own), (recentred, own_recentred) = (
        (estimates[row][column], estimates[column][column])
        for estimates in (transfer.accuracies, transfer.recentred_accuracies)
    )
    pair = transfer.likeness[row][column]
    return (
        *(accuracy.value, recentred.value, pair.cosine, transfer.n, accuracy.low, accuracy.high, own.value),
        *(recentred.low, recentred.high, own_recentred.value),
        *(transfer.reliability[row], transfer.reliability[column]),
        *(pair.ceiling, pair.disjoint, pair.low, pair.high, pair.verdict),
    )
