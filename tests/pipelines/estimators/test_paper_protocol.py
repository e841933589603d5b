import numpy as np
import pytest
import torch

from pipelines.estimators.group_permutations import group_permutations
from pipelines.estimators.nhsic import SHARE
from pipelines.estimators.paper_protocol import (
    EPSILON,
    SIGMA,
    paper_features,
    paper_labels,
    paper_nhsic,
    paper_null,
    paper_operator,
)


def as_released(x, y):
    """The released definition, read line by line: distances, kernel, one-sided centring, two inverses, trace."""
    centred = []
    for variable in (x, y):
        m, d = variable.shape
        lengths = (variable * variable).sum(dim=1).view(-1, 1)
        products = variable @ variable.T
        squares = (lengths.expand_as(products) - 2 * products + lengths.T.expand_as(products)).abs()
        kernel = torch.exp(-squares / (2.0 * SIGMA * SIGMA * d))
        centred.append(kernel @ (torch.eye(m) - torch.ones(m, m) / m))
    m = len(x)
    first, second = (kernel @ torch.inverse(kernel + EPSILON * m * torch.eye(m)) for kernel in centred)
    return float((first * second.T).sum())


def stored():
    """Small fixed arrays: sines, so that no generator's version changes them."""
    grid = np.arange(1, 41)[:, None] * np.arange(1, 7)[None]
    x = np.sin(grid).astype(np.float32)
    t = np.cos(x @ np.cos(np.arange(36).reshape(6, 6)).astype(np.float32)).astype(np.float32)
    return x, t, np.sin(np.arange(40) * 1.7) > 0


def operators(features, labels):
    return paper_operator(paper_features(features)), paper_operator(paper_labels(labels))


def test_it_is_the_released_definition_to_float32s_rounding():
    x, t, labels = stored()
    operator, wanted = operators(t, labels)
    first = paper_operator(paper_features(x))
    assert paper_nhsic(first, operator) == pytest.approx(as_released(paper_features(x), paper_features(t)), abs=2e-3)
    assert paper_nhsic(operator, wanted) == pytest.approx(
        as_released(paper_features(t), paper_labels(labels)), abs=2e-3
    )


def exact_root(variable):
    """``B`` with ``B Bᵀ = R``, at the paper's own constants: float64, two-sided centring, eigenvalues."""
    v = variable.double().numpy()
    m = len(v)
    lengths = (v * v).sum(axis=1)
    kernel = np.exp(-(lengths[:, None] - 2 * v @ v.T + lengths) / (2 * SIGMA**2 * v.shape[1]))
    centring = np.eye(m) - 1 / m
    w, u = np.linalg.eigh(centring @ kernel @ centring)
    return u * np.sqrt(w.clip(0) / (w.clip(0) + EPSILON * m))


def test_on_stored_arrays_it_is_near_the_exact_definition():
    x, t, labels = stored()
    first, second, wanted = paper_features(x), paper_features(t), paper_labels(labels)
    for variable, other in ((first, second), (second, wanted), (second, second)):
        exact = np.square(exact_root(variable).T @ exact_root(other)).sum()
        assert paper_nhsic(paper_operator(variable), paper_operator(other)) == pytest.approx(exact, abs=0.02)


@pytest.mark.parametrize("decay", [0.0, 0.5, 1.0, 1.5])
def test_of_a_variable_with_itself_it_has_closed_form(rng, decay):
    features = rng.normal(size=(500, 20)) * np.arange(1, 21) ** -decay @ np.linalg.qr(rng.normal(size=(20, 20)))[0]
    rows = paper_features(features)
    centred = (rows - rows.mean(dim=0)).double()
    shares = torch.linalg.eigvalsh(centred.T @ centred) / (len(rows) * 20)
    expected = (shares / (shares + SIGMA**2 * EPSILON)).square().sum()
    assert pytest.approx(SHARE) == SIGMA**2 * EPSILON
    operator = paper_operator(rows)
    assert paper_nhsic(operator, operator) == pytest.approx(float(expected), rel=0.02)  # float32, ill-conditioned


def test_with_balanced_labels_it_is_a_scaled_r_squared(rng):
    features = rng.normal(size=(500, 8))
    labels = features[:, 0] + rng.normal(size=500) > 0
    rows, y = paper_features(features).double().numpy(), paper_labels(labels)[:, 0].double().numpy()
    rows, y = rows - rows.mean(axis=0), y - y.mean()
    gram = rows @ rows.T / (SIGMA**2 * 8)
    r_squared = y @ gram @ np.linalg.solve(gram + EPSILON * 400 * np.eye(400), y) / (y @ y)
    found = paper_nhsic(*operators(features, labels))
    # The label's own component: its variance over 50² against the ridge.
    constant = y.var() / (y.var() + SIGMA**2 * EPSILON)
    assert constant == pytest.approx(0.909, abs=0.002)
    assert found == pytest.approx(constant * r_squared, abs=2e-3)


def test_its_fault_with_uneven_norms_is_kept():
    errors = []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        features = rng.normal(size=(1000, 768)) * np.exp(1.5 * rng.normal(size=(1000, 1)))
        rows, wanted = paper_features(features), paper_labels(rng.random(1000) > 0.5)
        exact = np.square(exact_root(rows).T @ exact_root(wanted)).sum()
        errors.append(abs(paper_nhsic(paper_operator(rows), paper_operator(wanted)) / exact - 1))
    assert max(errors) > 0.3


def test_the_null_of_unrelated_variables_holds_their_value(rng):
    one = paper_operator(paper_features(rng.normal(size=(100, 5))))
    other = paper_operator(paper_features(rng.normal(size=(100, 5))))
    related = paper_nhsic(one, one)
    chance = paper_null(one, other, group_permutations(np.arange(80), 50, seed=0))
    assert 0 < chance.mean < chance.quantile < related / 3
    assert chance.mean == pytest.approx(float(one.trace() * other.trace()) / 79, rel=0.05)
