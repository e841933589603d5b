"""Probe scores and directions of each layer, from the activations of labelled statements."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Int64

from pipelines.estimators.estimate import GroupBootstrap
from pipelines.estimators.linear_probe import ProbePredictions, probe_layer
from pipelines.estimators.logistic import StandardisedFeatures, fit_logistic
from pipelines.estimators.mass_mean import MeansCoincide, fit_mass_mean
from pipelines.estimators.paper_protocol import paper_probe
from pipelines.estimators.probe_direction import DIRECTION_PENALTY
from pipelines.estimators.saturation import saturation
from pipelines.estimators.scores import auroc, calibration_error, cross_entropy_bits
from pipelines.model_io.activations import Activations
from pipelines.probe.result import LayerDirection, ProbeScore
from pipelines.statements.labelled import LabelledStatements
from pipelines.sweep.folds import PAPER_TRAIN_RATIO, split_statements
from pipelines.sweep.protocol import FittingProtocol


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
    on_layer: Callable[[], None] = lambda: None,
) -> ProbeMeasurement:
    """Probe every layer of ``activations`` under ``protocol``, and fit its mass-mean direction."""
    splits = split_statements(statements, protocol)
    bootstrap = GroupBootstrap(statements.groups[splits.test_rows], fitted=True)
    scores: list[ProbeScore] = []
    directions: list[LayerDirection] = []
    probabilities, validation, distances = [], [], []
    for layer in activations.layers:
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
        scores += [
            _score(layer, seed, [prediction], statements, bootstrap) for seed, prediction in enumerate(predictions)
        ]
        scores.append(_score(layer, None, predictions, statements, bootstrap))
        directions += _directions(layer, features, standardised, statements, splits.folds[0])
        probabilities.append([prediction.probabilities for prediction in predictions])
        validation.append([prediction.validation_accuracies for prediction in predictions])
        distances.append([prediction.distances for prediction in predictions])
        on_layer()
    stacked = (np.asarray(values, np.float32).swapaxes(0, 1) for values in (probabilities, validation, distances))
    return ProbeMeasurement(tuple(scores), tuple(directions), *stacked)


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
