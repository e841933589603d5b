"""Tracing: whether a direction steers better where its probe reads better, over a series (the paper's Figure 5).

Each checkpoint's own direction, at the champion's layer and of the champion's length, steers one and the same model.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from pipelines.estimators.dynamics import Correlation, change_correlation
from pipelines.estimators.estimate import Estimate
from pipelines.evaluate.conditions import Subject
from pipelines.evaluate.significance import compare
from pipelines.evaluate.suite import measure_tasks
from pipelines.evaluate.tasks.task import Task
from pipelines.probe.result import UnitResult
from pipelines.tracking.checkpoints import checkpoint_columns, checkpoint_table
from registry.checkpoints import Checkpoint
from registry.errors import InvalidInput, Mismatch
from registry.layers import place_text
from serving.model.language_model import LanguageModel
from serving.steering.bank import ServedVector

TRACING_COLUMNS = checkpoint_columns(
    "dimension", "layer", "accuracy", "accuracy_low", "accuracy_high", "n_probed", "effect",
    "effect_low", "effect_high", "n",
)  # fmt: skip


@dataclass(frozen=True)
class TracedCheckpoint:
    """One checkpoint's direction: how well its probe reads, and what it does to the model that is evaluated."""

    dimension: str
    checkpoint: Checkpoint
    layer: int
    accuracy: Estimate
    """Held-out accuracy of the probe at this layer."""
    effect: Estimate
    """Change of preference, in nats, on held-out statements."""


@dataclass(frozen=True)
class TracedCorrelation:
    """How the changes of accuracy and effect from one checkpoint to the next go together, in one dimension."""

    dimension: str
    changes: Correlation


def require_traceable(subject: Subject) -> ServedVector:
    """The champion. Raises ``InvalidInput`` for one of several layers: a probe reads one."""
    if len(subject.champion.layers) > 1:
        raise InvalidInput(
            f"{subject.champion.reference} steers {place_text(subject.champion.layers)} and `trace` compares it with "
            "the probe of one layer: leave `trace` out, or calibrate a vector of one layer"
        )
    return subject.champion


def trace_effects(
    model: LanguageModel,
    subject: Subject,
    task: Task,
    results: Iterable[UnitResult],
    on_checkpoint: Callable[[], object] = lambda: None,
) -> Iterator[TracedCheckpoint]:
    """Steer ``model`` with the direction of each result; ``task`` is that of the dimension's held-out statements."""
    champion = require_traceable(subject).vector
    layer, length = champion.layer, subject.strength * champion.scale
    (base, *_) = measure_tasks(model, [task])
    for result in results:
        if not any(direction.layer == layer for direction in result.directions):
            continue
        direction = result.direction(layer).mass_mean.direction
        if len(direction) != model.d_model:
            raise Mismatch(
                f"{result.checkpoint.model} has d_model {len(direction)} and {model.checkpoint.model} has "
                f"{model.d_model}; trace a series of the same width"
            )
        offset = torch.from_numpy(np.float32(length) * direction)
        (steered, *_) = measure_tasks(model, [task], offsets={layer: offset})
        yield TracedCheckpoint(
            dimension=subject.dimension.name,
            checkpoint=result.checkpoint,
            layer=layer,
            accuracy=result.score(layer).accuracy,
            effect=compare(base, steered).difference,
        )
        on_checkpoint()


def correlations(traced: Sequence[TracedCheckpoint]) -> list[TracedCorrelation]:
    """One for each dimension, over all its checkpoints, which are in the order of training."""
    changes = []
    for dimension in dict.fromkeys(checkpoint.dimension for checkpoint in traced):
        own = [each for each in traced if each.dimension == dimension]
        accuracy, effect = (np.array(column) for column in zip(*_points(own), strict=True))
        changes.append(TracedCorrelation(dimension, change_correlation(accuracy, effect)))
    return changes


def _points(traced: Sequence[TracedCheckpoint]) -> list[tuple[float, float]]:
    return [(checkpoint.accuracy.value, checkpoint.effect.value) for checkpoint in traced]


def tracing_table(traced: Sequence[TracedCheckpoint]) -> pd.DataFrame:
    """``tracing.csv``: one row for each dimension and checkpoint."""
    return checkpoint_table(((each.checkpoint, _cells(each)) for each in traced), TRACING_COLUMNS)


def _cells(traced: TracedCheckpoint) -> tuple[object, ...]:
    accuracy, effect = traced.accuracy, traced.effect
    return (
        *(traced.dimension, traced.layer, accuracy.value, accuracy.low, accuracy.high, accuracy.n),
        *(effect.value, effect.low, effect.high, effect.n),
    )


def correlation_table(changes: Sequence[TracedCorrelation]) -> pd.DataFrame:
    """``correlation.csv``: of changes between checkpoints; an interval from -1 to 1 excludes nothing."""
    rows = [
        (each.dimension, *(each.changes.value, each.changes.low, each.changes.high, each.changes.n)) for each in changes
    ]
    return pd.DataFrame(rows, columns=["dimension", "r", "low", "high", "n"])


def correlation_summary(changes: Sequence[TracedCorrelation]) -> str:
    lines = [
        f"{'dimension':<12} {'n':>3}  changes of probe accuracy and of steering effect between checkpoints: r [95 %]"
    ]
    lines += [f"{each.dimension:<12} {each.changes.n:>3}  {each.changes}" for each in changes]
    return "\n".join(lines)
