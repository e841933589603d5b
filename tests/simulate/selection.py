"""Selection of a layer on pure noise and on planted layers: what is reported, and how often it excludes the truth."""

from collections.abc import Iterator

import numpy as np

from pipelines.estimators.estimate import GroupBootstrap
from pipelines.estimators.linear_probe import probe_layer
from pipelines.estimators.nested_selection import NestedSelection, nested_selection
from pipelines.statements.splits import group_folds
from tests.simulate.table import Row

PAIRS = 120


def selected(rng: np.random.Generator, layers: int, seeds: int, signal: float = 0.0) -> tuple[NestedSelection, float]:
    """The nested estimate of the best of ``layers``, the last of which holds ``signal``; and the accuracy of the layer
    that has the best validation over all folds, which is what selection must not report."""
    labels, groups = np.tile([True, False], PAIRS), np.repeat(np.arange(PAIRS), 2)
    folds = np.stack([group_folds(groups, labels, 5, int(rng.integers(1 << 30))) for _ in range(seeds)])
    validation, probabilities = [], []
    for layer in range(layers):
        features = rng.normal(size=(2 * PAIRS, 16))
        features[:, 0] += np.where(labels, signal / 2, -signal / 2) * (layer == layers - 1)
        predictions = probe_layer(features.astype(np.float32), labels, folds)
        validation.append([prediction.validation_accuracies for prediction in predictions])
        probabilities.append([prediction.probabilities for prediction in predictions])
    values, held_out = np.array(validation), np.array(probabilities)
    found = nested_selection(values, held_out, labels, folds, GroupBootstrap(groups, fitted=True))
    naive = held_out[values.mean(axis=(1, 2)).argmax()]
    return found, float(((naive > 0.5) == labels).mean())


def noise(layers: int, seeds: int, trials: int) -> tuple[float, float, float]:
    """Mean nested accuracy on noise, mean accuracy of the naive choice, and how often the interval lies above .5."""
    rng = np.random.default_rng(layers)
    drawn = [selected(rng, layers, seeds) for _ in range(trials)]
    values = [found.accuracy for found, _ in drawn]
    above = np.mean([accuracy.low > 0.5 for accuracy in values])
    return float(np.mean([each.value for each in values])), float(np.mean([each for _, each in drawn])), float(above)


def rows(scale: float) -> Iterator[Row]:
    for seeds in (1, 3):
        nested, naive, above = noise(16, seeds, round(60 * scale))
        setting = f"16 layers of noise, {PAIRS} pairs, {seeds} split" + "s" * (seeds > 1)
        yield Row("selection", "accuracy of the choice, nested", setting, f"{nested:.3f}", "≤ .50")
        yield Row("selection", "the same read where it was chosen", setting, f"{naive:.3f}", "")
        yield Row("selection", "interval above .5", setting, f"{above:.3f}", "≤ .025")
