"""Requirements of an evaluation: what can be found missing before a checkpoint is trained or a statement read."""

from pipelines.evaluate.options import EvaluateOptions
from pipelines.evaluate.tasks.harness import require_harness
from pipelines.evaluate.tasks.judge import Judge
from pipelines.evaluate.tasks.presidio import presidio_details
from pipelines.experiment import known_selection, require_sources, trained_checkpoints
from pipelines.tracking.champions import named_vectors
from registry.checkpoints import CheckpointSeries
from registry.errors import InvalidInput
from serving.steering.bank import ServedVector


def require_reachable(options: EvaluateOptions) -> None:
    """Raise for a device, a package, an endpoint or statements that are not to be had."""
    options.placement.resolved()
    require_harness(options.harness)
    if options.pii == "presidio":
        presidio_details()
    require_sources(options.statements)
    if options.judge is not None:
        Judge(options.judge, options.judge_model).require_answer()


def traced_series(options: EvaluateOptions, known: CheckpointSeries | None) -> CheckpointSeries | None:
    """The series to trace, or ``None`` for one that is trained first; ``known`` is that of the model.

    Raises for ``trace`` that selects none of its checkpoints.
    """
    if options.trace is None:
        return None
    if options.source is None and known is not None:
        trained_checkpoints(known, options.trace, parameter="trace")
        return known
    return known_selection(options.source or options.checkpoint.model, options.trace, parameter="trace")


def further_vectors(options: EvaluateOptions) -> list[ServedVector]:
    """The vectors that the user names. Raises ``InvalidInput`` for one of a dimension that is not evaluated."""
    vectors, names = named_vectors(options.vectors), [dimension.name for dimension in options.statements.chosen]
    for vector in vectors:
        if vector.dimension not in names:
            raise InvalidInput(
                f"{vector.reference} steers {vector.dimension}, which is not among {', '.join(names)}; give "
                f"dimensions={','.join([*names, vector.dimension])}"
            )
    return vectors
