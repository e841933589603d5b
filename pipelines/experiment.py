"""Experiment start: the series, the statements and the checkpoint that an experiment works on."""

from collections.abc import Sequence

from pipelines.pretrain.progress import ensure_series_with_bar
from pipelines.pretrain.series import SeriesConfig
from pipelines.statements.inspection import inspect_statements, refuse, render
from pipelines.statements.labelled import LabelledStatements
from pipelines.statements.sources import load_statements
from pipelines.tracking.quality import log_quality
from pipelines.tracking.units import log_statements
from registry.checkpoints import Checkpoint, CheckpointSeries
from registry.dimensions import Dimension
from registry.errors import InvalidInput
from serving.model.sources import find_series

EMBEDDED = "tiny"
"""The name of the checkpoint series that is trained on the spot."""


def resolve_series(model: str) -> CheckpointSeries:
    """The series a model's name stands for; ``tiny`` is trained first, unless it was before."""
    return embedded_series() if model == EMBEDDED else find_series(model)


def embedded_series() -> CheckpointSeries:
    return find_series(str(ensure_series_with_bar(SeriesConfig())), name=EMBEDDED)


def inspected_statements(
    dimensions: Sequence[Dimension], data: str, *, limit: int, as_released: bool = False
) -> dict[str, LabelledStatements]:
    """Every dimension's statements, once their quality report is shown, logged, and no reason to refuse them."""
    reports = inspect_statements(dimensions, data, limit=limit)
    print("\n\n".join(render(one) for one in reports), end="\n\n")  # noqa: T201
    log_quality(reports)
    refuse(reports)
    found = {one.name: load_statements(one, data, limit=limit, as_released=as_released) for one in dimensions}
    log_statements(found.values())
    return found


def after_random_init(series: CheckpointSeries, spec: str) -> tuple[Checkpoint, ...]:
    """The selected checkpoints after the random initialisation, which is always measured beside them."""
    trained = tuple(one for one in series.select(spec) if not one.is_random_init)
    if not trained:
        raise InvalidInput(f"checkpoints {spec!r} selects no trained one; init is always measured beside those chosen")
    return (series.random_init, *trained)


def one_checkpoint(model: str, spec: str) -> Checkpoint:
    """The one trained checkpoint that ``spec`` selects. Raises ``InvalidInput`` for none or several."""
    chosen = [one for one in resolve_series(model).select(spec) if not one.is_random_init]
    if len(chosen) != 1:
        raise InvalidInput(f"checkpoint {spec!r} selects {len(chosen)} trained checkpoints of {model}; give one")
    return chosen[0]
