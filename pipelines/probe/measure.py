"""Probe scores and directions of each layer, from the activations of labelled statements."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64

from pipelines.estimators.estimate import GroupBootstrap
from pipelines.estimators.linear_probe import ProbePredictions, probe_layer
from pipelines.estimators.logistic import fit_logistic
from pipelines.estimators.mass_mean import MeansCoincide, fit_mass_mean
from pipelines.estimators.paper_protocol import paper_probe
from pipelines.estimators.parallel import map_on_cores
from pipelines.estimators.probe_direction import DIRECTION_PENALTY
from pipelines.estimators.saturation import saturation
from pipelines.estimators.scores import auroc, calibration_error, cross_entropy_bits
from pipelines.estimators.standardised_features import StandardisedFeatures
from pipelines.model_io.activations import Activations
from pipelines.probe.result import LayerDirection, ProbeScore
from pipelines.statements.labelled import LabelledStatements
from pipelines.sweep.folds import PAPER_TRAIN_RATIO, split_statements
from pipelines.sweep.protocol import FittingProtocol

LAYERS_AT_ONCE = 16
"""Each takes some 100 MB for 1,200 statements of a model of 7B."""


def layers_at_once(device: torch.device | str) -> int:
    """How many layers are measured side by side: on a GPU one, since threads only take turns on it."""
    return LAYERS_AT_ONCE if torch.device(device).type == "cpu" else 1


@dataclass(frozen=True)
class ProbeMeasurement:
    """Probe scores and directions of every layer read."""

    scores: tuple[ProbeScore, ...]
    directions: tuple[LayerDirection, ...]
    probabilities: Float32[np.ndarray, "seeds layers n_test"]
    validation: Float32[np.ndarray, "seeds layers folds"]
    distances: Float32[np.ndarray, "seeds layers n_test"]


def measure(
    activations: Activations,
    statements: LabelledStatements,
    protocol: FittingProtocol,
    *,
    device: torch.device | str = "cpu",
) -> ProbeMeasurement:
    """Probe every layer of ``activations`` under ``protocol``, and fit its mass-mean direction.

    On a CPU layers are measured at once, each on one core, so that no number depends on how many cores there are.
    """
    splits = split_statements(statements, protocol)
    bootstrap = GroupBootstrap(statements.groups[splits.test_rows], fitted=True)

    def of_layer(layer: int) -> tuple[list[ProbeScore], list[LayerDirection], list[ProbePredictions]]:
        features = activations.layer(layer)
        standardised = StandardisedFeatures.of(torch.tensor(features, device=device))
        if protocol.is_paper:
            predictions = [paper_probe(features, statements.labels, PAPER_TRAIN_RATIO)]
        else:
            predictions = probe_layer(
                features,
                statements.labels,
                splits.folds,
                tested=splits.tested,
                device=device,
                standardised=standardised,
            )
        seeds = [
            _score(layer, seed, [prediction], statements, bootstrap) for seed, prediction in enumerate(predictions)
        ]
        pooled = _score(layer, None, predictions, statements, bootstrap)
        directions = _directions(layer, features, standardised, statements, splits.folds[0])
        return [*seeds, pooled], directions, predictions

    scores, directions, predictions = zip(
        *map_on_cores(of_layer, activations.layers, at_once=layers_at_once(device)), strict=True
    )
    return ProbeMeasurement(
        tuple(chain.from_iterable(scores)),
        tuple(chain.from_iterable(directions)),
        probabilities=_stacked(predictions, lambda prediction: prediction.probabilities),
        validation=_stacked(predictions, lambda prediction: prediction.validation_accuracies),
        distances=_stacked(predictions, lambda prediction: prediction.distances),
    )


def _stacked(
    predictions: Sequence[Sequence[ProbePredictions]], values: Callable[[ProbePredictions], Float[np.ndarray, " m"]]
) -> Float32[np.ndarray, "seeds layers m"]:
    by_layer = [[values(prediction) for prediction in of_layer] for of_layer in predictions]
    return np.asarray(by_layer, np.float32).swapaxes(0, 1)


def _score(
    layer: int,
    seed: int | None,
    predictions: list[ProbePredictions],
    statements: LabelledStatements,
    bootstrap: GroupBootstrap,
) -> ProbeScore:
    """Scores of one split, or of several together: each statement then counts once, with its mean over splits."""
    labels = statements.labels[predictions[0].rows]
    right = np.mean([(prediction.probabilities > 0.5) == labels for prediction in predictions], axis=0)
    control = np.mean([(prediction.shuffled > 0.5) == labels for prediction in predictions], axis=0)
    return ProbeScore(
        layer=layer,
        seed=seed,
        accuracy=bootstrap.proportion(right),
        auroc=float(np.mean([auroc(labels, prediction.probabilities) for prediction in predictions])),
        bits=float(np.mean([cross_entropy_bits(labels, prediction.probabilities) for prediction in predictions])),
        calibration_error=float(
            np.mean([calibration_error(labels, prediction.probabilities) for prediction in predictions])
        ),
        shuffled=bootstrap.proportion(control),
        validation_accuracy=float(np.mean([prediction.validation_accuracy for prediction in predictions])),
        n_train=predictions[0].n_train,
        saturation=saturation(
            np.stack([prediction.distances for prediction in predictions]),
            np.stack([prediction.probabilities for prediction in predictions]),
            labels,
            statements.groups[predictions[0].rows],
        ),
    )


def _directions(
    layer: int,
    features: Float32[np.ndarray, "n d_model"],
    standardised: StandardisedFeatures,
    statements: LabelledStatements,
    folds: Int64[np.ndarray, " n"],
) -> list[LayerDirection]:
    """The direction and the probe to register, both fitted without the first fold; none where the means coincide."""
    train = folds != 0
    try:
        mass_mean = fit_mass_mean(features[train], statements.labels[train])
    except MeansCoincide:
        return []
    fit = fit_logistic(standardised, statements.labels[:, None], train[:, None], np.array([DIRECTION_PENALTY]))
    projections = mass_mean.projections(features[~train]).astype(np.float64)
    return [
        LayerDirection(
            layer=layer,
            n_train=int(train.sum()),
            mass_mean=mass_mean,
            held_out_auroc=auroc(statements.labels[~train], projections),
            probe_weights=fit.weights[:, 0].cpu().numpy(),
            probe_bias=float(fit.biases[0]),
        )
    ]
