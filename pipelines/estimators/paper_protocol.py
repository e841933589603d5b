"""Paper protocol: nHSIC and probes as the released code computes them (arXiv 2402.19465), faults included.

It is there to be compared with, not to be believed. nHSIC is in float32, centred on one side, with a bandwidth of
50 √d for every variable, at which the kernel is linear to four digits, and a ridge of 1e-5 n. It is ill-conditioned
where rows differ in norm: values, which cannot be negative, come out so. Probes are standardised over all rows, fitted
by scikit-learn's default regression on the first 80 % in file order, and tested on the rest.
"""

import warnings

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int64
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from pipelines.estimators.linear_probe import ProbePredictions, plane_distances
from pipelines.estimators.nhsic import Null

SIGMA = 50.0
EPSILON = 1e-5
TRAIN_RATIO = 0.8
"""The released code measures the first 80 % of the statements, in file order."""


def paper_features(features: Float[np.ndarray, "n d"]) -> Float32[Tensor, "m d"]:
    """The rows that the released code measures, standardised over all rows."""
    matrix = torch.tensor(features, dtype=torch.float32)
    matrix = (matrix - matrix.mean(dim=0)) / matrix.std(dim=0).clamp_min(1e-12)
    return matrix[: int(len(matrix) * TRAIN_RATIO)]


def paper_labels(labels: Bool[np.ndarray, " n"]) -> Float32[Tensor, "m 1"]:
    return torch.tensor(labels[: int(len(labels) * TRAIN_RATIO)], dtype=torch.float32)[:, None]


def paper_operator(variable: Float32[Tensor, "m d"]) -> Float32[Tensor, "m m"]:
    """``R = A (A + ε m I)⁻¹`` with ``A = K H``: one inverse per variable; the released code takes one per value."""
    m, d = variable.shape
    products = variable @ variable.T
    lengths = products.diagonal()
    squares = (lengths[:, None] - 2 * products + lengths).abs()
    kernel = torch.exp(-squares / (2 * SIGMA**2 * d))
    identity = torch.eye(m)
    # Subtracting row means would round less; the product with H is what the released code does.
    centred = kernel @ (identity - torch.ones(m, m) / m)
    operator: Tensor = centred @ torch.linalg.inv(centred + EPSILON * m * identity)
    return operator


def paper_nhsic(one: Float32[Tensor, "m m"], other: Float32[Tensor, "m m"]) -> float:
    """``tr(R R')`` of two variables' operators."""
    return float((one * other.T).sum())


def paper_null(
    one: Float32[Tensor, "m m"], other: Float32[Tensor, "m m"], orders: Int64[np.ndarray, "m permutations"]
) -> Null:
    """What the value is when the statements of one variable are put in each of ``orders``."""
    values = torch.tensor([paper_nhsic(one[order][:, order], other) for order in map(torch.as_tensor, orders.T)])
    return Null(float(values.mean()), float(values.quantile(0.95)))


def paper_probe(
    features: Float32[np.ndarray, "n d_model"], labels: Bool[np.ndarray, " n"], train_ratio: float = 0.8
) -> ProbePredictions:
    """The paper's protocol, faults included: all-row standardisation, file order, one split, default regression.

    Its code has no validation split, so a layer chosen by ``validation_accuracy`` here is chosen on the test rows.
    """
    n_train = int(len(labels) * train_ratio)
    spread = features.std(axis=0, ddof=1).clip(min=1e-12)
    scaled = (features - features.mean(axis=0)) / spread
    rows = np.arange(n_train, len(labels))
    fits = []
    for targets in (labels[:n_train], np.random.default_rng(0).permutation(labels[:n_train])):
        with warnings.catch_warnings():
            # The released code stops at scikit-learn's default of 100 iterations and silences this too.
            warnings.simplefilter("ignore", ConvergenceWarning)
            fits.append(LogisticRegression().fit(scaled[:n_train], targets))
    probabilities, shuffled = (fit.predict_proba(scaled[n_train:])[:, 1] for fit in fits)
    logits = fits[0].decision_function(scaled[n_train:])[:, None]
    distances = plane_distances(logits, (fits[0].coef_[0] / spread)[:, None], features)[:, 0]
    accuracy = float(((probabilities > 0.5) == labels[rows]).mean())
    return ProbePredictions(rows, probabilities, shuffled, distances, np.array([accuracy]), n_train)
