"""Linear probes: how well a logistic regression on one layer's activations tells the two classes apart.

Every statement is predicted once a seed, by a probe that saw none of its group: in each of five group folds the
standardiser, the weights and C are chosen without the fold that is tested. The paper's own protocol is
``paper_protocol.paper_probe``.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64, Int64

from pipelines.estimators.logistic import fit_logistic
from pipelines.estimators.standardised_features import StandardisedFeatures

PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Candidates for C, scikit-learn's inverse regularisation strength, on standardised activations."""


@dataclass(frozen=True)
class ProbePredictions:
    """Held-out predictions of one layer's probes for one seed."""

    rows: Int64[np.ndarray, " n_test"]
    """Which statements were tested."""
    probabilities: Float[np.ndarray, " n_test"]
    """P(trustworthy) for each tested statement, by a probe that did not see its group."""
    shuffled: Float[np.ndarray, " n_test"]
    """The same from probes fitted on shuffled labels: the control."""
    distances: Float[np.ndarray, " n_test"]
    """Of each tested statement to the plane of the probe that predicts it, in root mean squares of the activations;
    positive on the trustworthy side, 0 for a probe without weights."""
    validation_accuracies: Float[np.ndarray, " folds"]
    """Accuracy on the validation fold at the chosen C, for each tested fold, which had no part in it: the only score by
    which a layer may be chosen."""
    n_train: int
    """Statements each tested probe was fitted on (the mean over folds, rounded)."""

    @property
    def validation_accuracy(self) -> float:
        """Their mean."""
        return float(self.validation_accuracies.mean())


def probe_layer(
    features: Float32[np.ndarray, "n d_model"],
    labels: Bool[np.ndarray, " n"],
    folds: Int64[np.ndarray, "seeds n"],
    *,
    tested: Sequence[int] | None = None,
    penalties: Sequence[float] = PENALTIES,
    device: torch.device | str = "cpu",
    standardised: StandardisedFeatures | None = None,
) -> list[ProbePredictions]:
    """Held-out predictions of one layer's probes, one ``ProbePredictions`` for each row of ``folds``.

    ``tested`` names the folds to predict, all of them by default. For each, C is the candidate with the least
    cross-entropy on the next fold when fitted on the others; the probe is then fitted again on all but the tested one.
    ``standardised`` are these features on ``device``, where they are there already.
    """
    shared = standardised or StandardisedFeatures.of(torch.tensor(features, device=device))
    wanted = range(int(folds.max()) + 1) if tested is None else tested
    plans = [(seed, fold) for seed in range(len(folds)) for fold in wanted]
    chosen, accuracies = _choose_penalties(shared, labels, folds, plans, penalties)
    masks = np.stack([folds[seed] != fold for seed, fold in plans], axis=1)
    shuffled = np.stack([_shuffled(labels, masks[:, k], k) for k in range(len(plans))], axis=1)
    fits = fit_logistic(
        shared,
        np.concatenate([np.repeat(labels[:, None], len(plans), axis=1), shuffled], axis=1),
        np.concatenate([masks, masks], axis=1),
        np.concatenate([chosen, chosen]),
    )
    logits = fits.fitted_logits
    probabilities = torch.sigmoid(logits).cpu().numpy().astype(np.float64)
    true = slice(len(plans))
    distances = plane_distances(logits[:, true].cpu().numpy(), fits.weights[:, true].cpu().numpy(), features)
    return [
        _collect(seed, folds[seed], plans, probabilities, distances, accuracies, masks) for seed in range(len(folds))
    ]


def predict_further(
    features: Float32[np.ndarray, "n d_model"],
    labels: Bool[np.ndarray, " n"],
    folds: Int64[np.ndarray, "seeds n"],
    plans: Sequence[tuple[int, int]],
    further: Float32[np.ndarray, "m d_model"],
    *,
    penalties: Sequence[float] = PENALTIES,
    device: torch.device | str = "cpu",
) -> Float64[np.ndarray, "m plans"]:
    """P(trustworthy) of ``further`` activations by the probe of each plan, a seed and the fold that it leaves out.

    Probes are fitted as by ``probe_layer``, so they have no part in what is predicted if ``further`` has none.
    """
    shared = StandardisedFeatures.of(torch.tensor(features, device=device))
    chosen, _ = _choose_penalties(shared, labels, folds, plans, penalties)
    masks = np.stack([folds[seed] != fold for seed, fold in plans], axis=1)
    fits = fit_logistic(shared, np.repeat(labels[:, None], len(plans), axis=1), masks, chosen)
    logits = fits.logits(torch.tensor(further, device=device))
    probabilities: Float64[np.ndarray, "m plans"] = torch.sigmoid(logits).cpu().numpy().astype(np.float64)
    return probabilities


def plane_distances(
    logits: Float[np.ndarray, "n k"], weights: Float[np.ndarray, "d k"], features: Float[np.ndarray, "m d"]
) -> Float[np.ndarray, "n k"]:
    """Signed distances to the planes that ``k`` probes divide by, in root mean squares of ``features``."""
    root_mean_square = np.sqrt(np.einsum("nd,nd->", features, features, dtype=np.float64) / features.size)
    scale = np.linalg.norm(weights.astype(np.float64), axis=0) * root_mean_square
    distances: Float[np.ndarray, "n k"] = np.zeros(logits.shape)
    np.divide(logits, scale, out=distances, where=scale > 0)
    return distances


def _choose_penalties(
    shared: StandardisedFeatures,
    labels: Bool[np.ndarray, " n"],
    folds: Int64[np.ndarray, "seeds n"],
    plans: Sequence[tuple[int, int]],
    penalties: Sequence[float],
) -> tuple[Float[np.ndarray, " plans"], Float[np.ndarray, " plans"]]:
    """For each (seed, tested fold): the C with the least validation cross-entropy, and its validation accuracy.

    Candidates are tried from the strongest regularisation on, until one is worse than the one before.
    """
    n_folds = int(folds.max()) + 1
    validation = np.stack([folds[seed] == (fold + 1) % n_folds for seed, fold in plans], axis=1)
    train = np.stack([folds[seed] != fold for seed, fold in plans], axis=1) & ~validation
    signs = np.where(labels, 1.0, -1.0)[:, None]
    chosen, accuracies = np.empty(len(plans)), np.empty(len(plans))
    losses = np.full(len(plans), np.inf)
    falling = np.arange(len(plans))
    for penalty in sorted(penalties):
        targets = np.repeat(labels[:, None], len(falling), axis=1)
        fits = fit_logistic(shared, targets, train[:, falling], np.full(len(falling), penalty))
        margins = signs * fits.fitted_logits.cpu().numpy().astype(np.float64)
        found = np.average(np.logaddexp(0, -margins), axis=0, weights=validation[:, falling])
        better = found < losses[falling]
        right = np.average(margins > 0, axis=0, weights=validation[:, falling])
        falling = falling[better]
        chosen[falling], accuracies[falling], losses[falling] = penalty, right[better], found[better]
        if not len(falling):
            break
    return chosen, accuracies


def _shuffled(labels: Bool[np.ndarray, " n"], mask: Bool[np.ndarray, " n"], seed: int) -> Bool[np.ndarray, " n"]:
    """``labels`` with those of the rows in ``mask`` permuted among themselves."""
    result = labels.copy()
    result[mask] = np.random.default_rng(seed).permutation(labels[mask])
    return result


def _collect(
    seed: int,
    folds: Int64[np.ndarray, " n"],
    plans: Sequence[tuple[int, int]],
    probabilities: Float[np.ndarray, "n fits"],
    distances: Float[np.ndarray, "n plans"],
    accuracies: Float[np.ndarray, " plans"],
    masks: Bool[np.ndarray, "n plans"],
) -> ProbePredictions:
    """Each tested statement's prediction by the probe of ``seed`` that was not fitted on its fold."""
    members = [k for k, (planned, _) in enumerate(plans) if planned == seed]
    column = {plans[k][1]: k for k in members}
    rows = np.flatnonzero(np.isin(folds, list(column)))
    columns = np.array([column[fold] for fold in folds[rows]])
    return ProbePredictions(
        rows=rows,
        probabilities=probabilities[rows, columns],
        shuffled=probabilities[rows, len(plans) + columns],
        distances=distances[rows, columns],
        validation_accuracies=accuracies[members],
        n_train=round(float(masks[:, members].sum(axis=0).mean())),
    )
