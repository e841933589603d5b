"""Information of each layer about its input and its label, from the activations of labelled statements."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int64
from scipy.special import logit
from torch import Tensor

from pipelines.estimators.estimate import Estimate, GroupBootstrap
from pipelines.estimators.group_permutations import group_permutations
from pipelines.estimators.hsic import debiased_cka, unbiased_hsic
from pipelines.estimators.jackknife import jackknife_halves, nhsic_on_halves
from pipelines.estimators.linear_probe import probe_layer
from pipelines.estimators.logistic import fit_logistic
from pipelines.estimators.mass_mean import MeansCoincide, fit_mass_mean
from pipelines.estimators.mutual_information import neighbour_information_bits
from pipelines.estimators.nhsic import (
    KernelFactor,
    choose_landmarks,
    kernel_factors,
    label_factor,
    nhsic,
    null,
    standardised,
)
from pipelines.estimators.paper_protocol import (
    paper_features,
    paper_labels,
    paper_nhsic,
    paper_null,
    paper_operator,
)
from pipelines.estimators.parallel import map_on_cores
from pipelines.estimators.spectrum import spectrum
from pipelines.estimators.v_information import conditional_information, usable_information
from pipelines.information.options import InformationSettings
from pipelines.information.result import (
    FIXED,
    OWN,
    PAPER,
    Dependence,
    LayerInformation,
    SweptBandwidth,
    Transferable,
)
from pipelines.model_io.activations import Activations
from pipelines.statements.labelled import LabelledStatements
from pipelines.sweep.folds import Splits

SCALES = (1.0, 0.5, 2.0, 8.0)
"""Multiples of the median bandwidth; the first is the one that the tables speak of."""
PERMUTATIONS = 50
PAPER_PERMUTATIONS = 20
TRANSFER_DEPTH = 2 / 3
TRANSFER_PENALTY = 1e-2


@dataclass(frozen=True)
class Shared:
    """What the units of one dimension share, whatever the checkpoint."""

    reference: Float32[np.ndarray, "n d_model"]
    """X as the last checkpoint has it: the output of its block 0."""
    splits: Splits
    """One split into folds."""
    baseline: Float[np.ndarray, " n"]
    """Held-out P(trustworthy) by an n-gram model, over words or characters, whichever is right more often."""


@dataclass(frozen=True)
class Geometry:
    """What the kernels of one layer say."""

    xt: Mapping[str, Dependence]
    ty: Dependence
    tt: float
    captured: float
    swept: tuple[SweptBandwidth, ...] = ()


def measure_information(
    activations: Activations,
    statements: LabelledStatements,
    settings: InformationSettings,
    shared: Shared,
    *,
    device: torch.device | str = "cpu",
) -> tuple[LayerInformation, ...]:
    """Every layer of ``activations``, of which the first is X."""
    measure = _PaperKernels if settings.is_paper else _Kernels
    kernels = measure(activations.layer(activations.layers[0]), shared.reference, statements, settings)
    (folds,), rows = shared.splits.folds, shared.splits.test_rows
    bootstrap = GroupBootstrap(statements.groups[rows], fitted=True)

    def of_layer(layer: int) -> LayerInformation:
        features = activations.layer(layer)
        matrix = standardised(features)
        geometry = kernels.geometry(features, matrix)
        (probe,) = probe_layer(features, statements.labels, folds[None], device=device)
        known = _information(statements.labels, probe.probabilities, shared.baseline, folds, rows, bootstrap)
        return LayerInformation(
            layer=layer,
            xt=geometry.xt,
            ty=geometry.ty,
            tt=geometry.tt,
            captured=geometry.captured,
            bits=known[0],
            conditional_bits=known[1],
            neighbour_bits=neighbour_information_bits(
                logit(probe.probabilities[rows].clip(1e-6, 1 - 1e-6)), statements.labels[rows], seed=settings.seed
            ),
            spectrum=spectrum(features),
            swept=geometry.swept,
        )

    return map_on_cores(of_layer, activations.layers)


def _information(
    labels: Bool[np.ndarray, " n"],
    probabilities: Float[np.ndarray, " n"],
    baseline: Float[np.ndarray, " n"],
    folds: Int64[np.ndarray, " n"],
    rows: Int64[np.ndarray, " n_test"],
    bootstrap: GroupBootstrap,
) -> tuple[Estimate, Estimate]:
    """Usable information of the tested statements, and the part of it that the baseline does not have."""
    return (
        bootstrap.mean(usable_information(labels, probabilities)[rows]),
        bootstrap.mean(conditional_information(labels, probabilities, baseline, folds)[rows]),
    )


class _Kernels:
    """The kernels of X and Y, decomposed once for all layers of a checkpoint."""

    def __init__(
        self,
        own: Float32[np.ndarray, "n d_model"],
        reference: Float32[np.ndarray, "n d_model"],
        statements: LabelledStatements,
        settings: InformationSettings,
    ) -> None:
        self._orders = group_permutations(statements.groups, PERMUTATIONS, settings.seed)
        self._landmarks = choose_landmarks(statements.n, settings.landmarks, settings.seed)
        self._halves = jackknife_halves(statements.groups, settings.seed)
        self._own = kernel_factors(standardised(own), self._landmarks, SCALES)
        (self._fixed,) = kernel_factors(standardised(reference), self._landmarks)
        self._labels = label_factor(statements.labels)

    def geometry(self, _features: Float32[np.ndarray, "n d_model"], matrix: Tensor) -> Geometry:
        factors = kernel_factors(matrix, self._landmarks, SCALES)
        here = factors[0]
        swept = tuple(
            SweptBandwidth(
                scale,
                factor.bandwidth,
                nhsic(factor, own),
                nhsic(factor, self._labels),
                float(factor.weights.square().sum()),
            )
            for scale, factor, own in zip(SCALES, factors, self._own, strict=True)
        )
        xt = {OWN: self._dependence(here, self._own[0]), FIXED: self._dependence(here, self._fixed)}
        captured = float(here.shares.sum())
        return Geometry(xt, self._dependence(here, self._labels), nhsic(here, here), captured, swept)

    def _dependence(self, one: KernelFactor, other: KernelFactor) -> Dependence:
        chance = null(one, other, self._orders)
        return Dependence(
            nhsic=nhsic(one, other),
            null_mean=chance.mean,
            null=chance.quantile,
            hsic=unbiased_hsic(one, other),
            cka=debiased_cka(one, other),
            halves=tuple(nhsic_on_halves(one, other, self._halves).tolist()),
        )


class _PaperKernels:
    """The operators of X and Y as the paper's code has them."""

    def __init__(
        self,
        own: Float32[np.ndarray, "n d_model"],
        _reference: Float32[np.ndarray, "n d_model"],
        statements: LabelledStatements,
        settings: InformationSettings,
    ) -> None:
        self._own = paper_operator(paper_features(own))
        self._labels = paper_operator(paper_labels(statements.labels))
        groups = statements.groups[: len(self._own)]
        self._orders = group_permutations(groups, PAPER_PERMUTATIONS, settings.seed)

    def geometry(self, features: Float32[np.ndarray, "n d_model"], _matrix: Tensor) -> Geometry:
        here = paper_operator(paper_features(features))
        xt, ty = (self._dependence(here, other) for other in (self._own, self._labels))
        return Geometry({PAPER: xt}, ty, paper_nhsic(here, here), 1.0)

    def _dependence(self, one: Tensor, other: Tensor) -> Dependence:
        chance = paper_null(one, other, self._orders)
        return Dependence(paper_nhsic(one, other), chance.mean, chance.quantile)


def keep_transferable(
    activations: Activations, statements: LabelledStatements, folds: Int64[np.ndarray, " n"]
) -> Transferable:
    """The activations, probes and direction of the layer two thirds down, in units in which float16 is exact enough."""
    layer = activations.layers[round(TRANSFER_DEPTH * (len(activations.layers) - 1))]
    features = activations.layer(layer)
    states = (features / max(float(np.abs(features).max()), 1e-30)).astype(np.float16)
    masks = folds[:, None] != np.arange(int(folds.max()) + 1)
    labels = np.repeat(statements.labels[:, None], masks.shape[1], axis=1)
    matrix = torch.tensor(states.astype(np.float32))
    fits = fit_logistic(matrix, labels, masks, np.full(masks.shape[1], TRANSFER_PENALTY))
    return Transferable(
        layer=layer,
        states=states,
        weights=fits.weights.T.contiguous().numpy(),
        biases=fits.biases.numpy(),
        direction=_direction(features, statements),
    )


def _direction(
    features: Float32[np.ndarray, "n d_model"], statements: LabelledStatements
) -> Float32[np.ndarray, " d_model"]:
    """The mass-mean direction; zero where the class means coincide, which lies along no other."""
    try:
        return fit_mass_mean(features, statements.labels).direction
    except MeansCoincide:
        return np.zeros(features.shape[1], np.float32)
