"""Does a direction steer better where its probe reads better? Over the checkpoints of a series (the paper's Figure 5).

Each checkpoint's own direction, at the champion's layer and of the champion's length, steers one and the same model.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
import torch
from scipy.stats import pearsonr

from pipelines.estimators.estimate import CONFIDENCE, Estimate
from pipelines.evaluate.conditions import Subject
from pipelines.evaluate.significance import compare
from pipelines.evaluate.suite import measure_tasks
from pipelines.evaluate.tasks.task import Task
from pipelines.probe.result import UnitResult
from registry.errors import Mismatch
from serving.model.language_model import LanguageModel

FEWEST_CHECKPOINTS = 4
"""Fisher's interval needs more than three points."""


@dataclass(frozen=True)
class TracedCheckpoint:
    """One checkpoint's direction: how well its probe reads, and what it does to the model that is evaluated."""

    dimension: str
    step: int
    layer: int
    accuracy: Estimate
    """Held-out accuracy of the probe at this layer."""
    effect: Estimate
    """Change of preference, in nats, on held-out statements."""


@dataclass(frozen=True)
class Correlation:
    """Pearson's r of accuracy and effect over ``n`` checkpoints, with Fisher's 95 % interval."""

    dimension: str
    checkpoints: str
    """``all``, or the ``later half``: over all of them r mostly says that both are better later."""
    r: float
    low: float
    high: float
    n: int


def trace_effects(
    model: LanguageModel,
    subject: Subject,
    task: Task,
    results: Iterable[UnitResult],
    on_checkpoint: Callable[[], object] = lambda: None,
) -> Iterator[TracedCheckpoint]:
    """Steer ``model`` with the direction of each result; ``task`` is that of the dimension's held-out statements."""
    layer = subject.champion.layer
    length = subject.strength * subject.champion.vector.scale
    (base, *_) = measure_tasks(model, [task])
    for result in results:
        if not any(one.layer == layer for one in result.directions):
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
            step=result.checkpoint.step,
            layer=layer,
            accuracy=result.score(layer).accuracy,
            effect=compare(base, steered).difference,
        )
        on_checkpoint()


def correlations(traced: Sequence[TracedCheckpoint]) -> list[Correlation]:
    """For each dimension over all its checkpoints, and over the later half; none of fewer than four."""
    found = []
    for dimension in dict.fromkeys(one.dimension for one in traced):
        own = sorted((one for one in traced if one.dimension == dimension), key=lambda one: one.step)
        for name, chosen in (("all", own), ("later half", own[len(own) // 2 :])):
            accuracy, effect = [one.accuracy.value for one in chosen], [one.effect.value for one in chosen]
            if len(chosen) >= FEWEST_CHECKPOINTS and np.ptp(accuracy) > 0 and np.ptp(effect) > 0:
                found.append(Correlation(dimension, name, *pearson(accuracy, effect), len(chosen)))
    return found


def pearson(x: Sequence[float], y: Sequence[float]) -> tuple[float, float, float]:
    """Pearson's r with the interval of Fisher's transformation."""
    found = pearsonr(x, y)
    interval = found.confidence_interval(CONFIDENCE)
    return float(found.statistic), float(interval.low), float(interval.high)


def tracing_table(traced: Sequence[TracedCheckpoint]) -> pd.DataFrame:
    """``tracing.csv``: one row for each dimension and checkpoint."""
    return pd.DataFrame(
        {
            "dimension": one.dimension, "step": one.step, "layer": one.layer, "accuracy": one.accuracy.value,
            "accuracy_low": one.accuracy.low, "accuracy_high": one.accuracy.high, "n_probed": one.accuracy.n,
            "effect": one.effect.value, "effect_low": one.effect.low, "effect_high": one.effect.high,
            "n": one.effect.n,
        }
        for one in traced
    )  # fmt: skip


def correlation_table(found: Sequence[Correlation]) -> pd.DataFrame:
    """``correlation.csv``."""
    return pd.DataFrame([asdict(one) for one in found], columns=["dimension", "checkpoints", "r", "low", "high", "n"])


def correlation_summary(found: Sequence[Correlation]) -> str:
    lines = [f"{'dimension':<12} {'checkpoints':<11} {'n':>3}  probe accuracy and steering effect: r [95 %]"]
    lines += [
        f"{one.dimension:<12} {one.checkpoints:<11} {one.n:>3}  {one.r:+.2f} [{one.low:+.2f}, {one.high:+.2f}]"
        for one in found
    ]
    return "\n".join(lines)
