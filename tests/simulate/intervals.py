"""Coverage of intervals: how often they hold the truth, by number of groups, shape, group size and class balance."""

from collections.abc import Callable, Iterator

import numpy as np

from pipelines.estimators.estimate import Estimate, GroupBootstrap, class_columns, difference_of_class_means
from pipelines.estimators.linear_probe import probe_layer
from pipelines.statements.splits import group_folds
from tests.simulate.table import Row

GROUPS = (6, 8, 10, 20, 40, 120)
Draw = Callable[[np.random.Generator, int], tuple[Estimate, float]]
"""One data set of so many groups: its interval and the truth."""


def _mean(effects: Callable[[np.random.Generator, int], np.ndarray], even: bool = True) -> Draw:
    def draw(rng: np.random.Generator, n_groups: int) -> tuple[Estimate, float]:
        sizes = np.full(n_groups, 3) if even else 1 + rng.geometric(0.3, size=n_groups)
        groups = np.repeat(np.arange(n_groups), sizes)
        values = effects(rng, n_groups)[groups] + 0.3 * rng.normal(size=len(groups))
        return _bootstrap(groups, rng).mean(values), 0.0

    return draw


def _classes(share: float | None, fewest: int = 3) -> Draw:
    """Groups of one class each, ``share`` of them trustworthy; ``None`` for groups of both classes."""

    def draw(rng: np.random.Generator, n_groups: int) -> tuple[Estimate, float]:
        groups = np.repeat(np.arange(n_groups), 6)
        labels = (
            np.tile([True, False], 3 * n_groups) if share is None else groups < max(fewest, round(share * n_groups))
        )
        effects = rng.normal(size=(2, n_groups))
        values = np.where(labels, effects[0][groups], effects[1][groups]) + 0.3 * rng.normal(size=len(groups))
        columns = class_columns(values, labels)
        return _bootstrap(groups, rng).statistic(columns, difference_of_class_means, labels=labels), 0.0

    return draw


def _proportion(share: float) -> Draw:
    """Pairs, three in ten of which are right or wrong together."""

    def draw(rng: np.random.Generator, n_groups: int) -> tuple[Estimate, float]:
        groups = np.repeat(np.arange(n_groups), 2)
        together, alone = rng.random(n_groups) < share, rng.random(2 * n_groups) < share
        right = np.where((rng.random(n_groups) < 0.3)[groups], together[groups], alone)
        return _bootstrap(groups, rng).proportion(right.astype(float)), share

    return draw


def _bootstrap(groups: np.ndarray, rng: np.random.Generator) -> GroupBootstrap:
    return GroupBootstrap(groups, seed=int(rng.integers(4)), resamples=400)


MEANS: dict[str, Draw] = {
    "mean, normal groups": _mean(lambda rng, n: rng.normal(size=n)),
    "mean, skewed groups (exponential)": _mean(lambda rng, n: rng.exponential(size=n) - 1),
    "mean, heavy tails (t, 4)": _mean(lambda rng, n: rng.standard_t(4, size=n)),
    "mean, groups of unequal size": _mean(lambda rng, n: rng.normal(size=n), even=False),
}
CLASSES: dict[str, Draw] = {
    "class difference, groups of both classes": _classes(None),
    "class difference, equal classes": _classes(0.5),
    "class difference, a quarter of the rarer class": _classes(0.25),
    "class difference, two groups of the rarer class": _classes(0.0, fewest=2),
}
PROPORTIONS: dict[str, Draw] = {f"share {share} of pairs": _proportion(share) for share in (0.5, 0.8, 0.95)}
DRAWS = MEANS | CLASSES | PROPORTIONS


def coverage(case: str, n_groups: int, trials: int) -> float:
    """How often the interval of ``case`` holds the truth."""
    rng = np.random.default_rng(n_groups)
    drawn = (DRAWS[case](rng, n_groups) for _ in range(trials))
    return float(np.mean([estimate.low <= truth <= estimate.high for estimate, truth in drawn]))


def probe_coverage(n_pairs: int, d: int, signal: float, shared: float, trials: int) -> tuple[float, float]:
    """Coverage of a cross-validated probe's accuracy, and the spread of accuracies over the plain standard error.

    The truth is the mean accuracy of such probes over data sets. ``shared`` is what the two of a pair have in common.
    """
    rng = np.random.default_rng(d)
    labels, groups = np.tile([True, False], n_pairs), np.repeat(np.arange(n_pairs), 2)
    accuracies, estimates, errors = [], [], []
    for seed in range(trials):
        features = rng.normal(size=(2 * n_pairs, d)) + shared * rng.normal(size=(n_pairs, d))[groups]
        features[:, 0] += np.where(labels, signal / 2, -signal / 2)
        folds = group_folds(groups, labels, 5, seed)[None]
        (probe,) = probe_layer(features.astype(np.float32), labels, folds)
        right = ((probe.probabilities > 0.5) == labels).astype(float)
        accuracies.append(right.mean())
        estimates.append(GroupBootstrap(groups, fitted=True).proportion(right))
        errors.append(right.reshape(-1, 2).mean(axis=1).std(ddof=1) / n_pairs**0.5)
    truth = float(np.mean(accuracies))
    held = float(np.mean([estimate.low <= truth <= estimate.high for estimate in estimates]))
    return held, float(np.std(accuracies) / np.mean(errors))


def rows(scale: float) -> Iterator[Row]:
    for case in DRAWS:
        held = [f"{coverage(case, n_groups, round(400 * scale)):.3f}" for n_groups in GROUPS]
        yield Row("intervals", f"coverage: {case}", f"{', '.join(map(str, GROUPS))} groups", " ".join(held), ".93–.97")
    for n_pairs, d, signal, shared in (
        (120, 32, 1.0, 0.0),
        (120, 64, 2.0, 0.0),
        (120, 32, 1.0, 2.0),
        (120, 64, 0.0, 0.0),
    ):
        held_share, ratio = probe_coverage(n_pairs, d, signal, shared, round(200 * scale))
        setting = f"{n_pairs} pairs, d {d}, signal {signal:g}, shared {shared:g}"
        yield Row("intervals", f"coverage: probe accuracy (spread {ratio:.2f}x)", setting, f"{held_share:.3f}", "≥ .93")
