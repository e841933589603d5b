"""How much faster all layers' nHSIC is than the paper's implementation, on the same arrays.

The slow reference is the paper's code as released: for every layer and each of I(T;X) and I(T;Y) both kernels are
built, centred and inverted in float32.
"""

import numpy as np
import torch

from pipelines.estimators.nhsic import choose_landmarks, kernel_factors, label_factor, nhsic, standardised
from pipelines.estimators.paper_protocol import EPSILON, SIGMA, paper_features, paper_labels
from pipelines.estimators.parallel import map_on_cores
from pipelines.information.options import LANDMARKS
from tests.bench.table import Comparison
from tests.bench.timing import seconds

CASES = ((1500, 4, 192), (1877, 12, 576))
"""Statements measured, layers, width: the embedded series, and ConfAIde's first 80 % in SmolLM2's width."""


def residual_stream(n: int, layers: int, d_model: int) -> tuple[np.ndarray, np.ndarray]:
    """Activations that grow from layer to layer as a residual stream does, with a falling spectrum; and labels."""
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=(n, d_model)) * np.arange(1, d_model + 1) ** -0.7
    # Turned, so that the spectrum still falls when every feature is brought to one spread.
    states = [hidden @ np.linalg.qr(rng.normal(size=(d_model, d_model)))[0]]
    mixing = rng.normal(size=(layers, d_model, d_model)) / d_model**0.5
    for layer in range(layers - 1):
        states.append(states[-1] + 0.5 * np.tanh(states[-1] @ mixing[layer]))
    return np.stack(states).astype(np.float32), hidden[:, 0] > 0


def as_the_paper_does(states: np.ndarray, labels: np.ndarray) -> list[tuple[float, float]]:
    """I(T;X) and I(T;Y) of every layer, each by the released steps."""
    x, y = paper_features(states[0]), paper_labels(labels)
    return [tuple(released_nhsic(paper_features(layer), other) for other in (x, y)) for layer in states]


def released_nhsic(one: torch.Tensor, other: torch.Tensor) -> float:
    operators = []
    for variable in (one, other):
        m, d = variable.shape
        lengths = torch.sum(variable * variable, 1).view([-1, 1])
        products = torch.mm(variable, variable.T)
        squares = torch.abs(lengths.expand_as(products) - 2 * products + lengths.T.expand_as(products))
        kernel = torch.exp(-squares / (2.0 * SIGMA * SIGMA * d))
        centred = torch.mm(kernel, torch.eye(m) - (1.0 / m) * torch.ones([m, m]))
        operators.append(centred.mm(torch.inverse(centred + EPSILON * m * torch.eye(m))))
    return float(torch.sum(torch.mul(operators[0], operators[1].T)))


def soundly(states: np.ndarray, labels: np.ndarray, landmarks: int = LANDMARKS) -> list[tuple[float, float]]:
    """The same quantities of the same rows; 0 landmarks for all statements, which is exact."""
    n = int(0.8 * len(labels))
    rows, wanted = choose_landmarks(n, landmarks, 0), label_factor(labels[:n])
    factors = map_on_cores(lambda layer: kernel_factors(standardised(layer[:n]), rows)[0], states)
    return list(map_on_cores(lambda one: (nhsic(one, factors[0]), nhsic(one, wanted)), factors))


def compare_information() -> list[Comparison]:
    compared = []
    for rows, layers, d_model in CASES:
        states, labels = residual_stream(round(rows / 0.8), layers, d_model)
        fast = seconds(lambda states=states, labels=labels: soundly(states, labels), 3)  # type: ignore[misc]
        slow = seconds(lambda states=states, labels=labels: as_the_paper_does(states, labels), 3)  # type: ignore[misc]
        near, exact = np.array(soundly(states, labels)), np.array(soundly(states, labels, landmarks=0))
        change = float(np.abs(near / exact - 1).max())
        what = f"nHSIC of {layers} layers × {rows:,} statements, {d_model} wide"
        what += f" (by {LANDMARKS} landmarks, which change it by at most {change:.1%})"
        against = f"{slow:.1f} s for the paper's implementation"
        key = f"information/nhsic_{layers}_layers"
        compared.append(Comparison(key, what, f"{fast:.2f} s", against, slow / fast, "x", at_least=20))
    return compared
