"""Steps: one forward pass of the sequences whose clients compute next, and one by one where it fails for all."""

import logging
from collections.abc import Mapping

from serving.engine.slots.batch import Batch
from serving.engine.slots.model_runner import ModelRunner
from serving.engine.slots.scheduler import Scheduler
from serving.engine.slots.turns import Turn
from serving.engine.wakes import together

logger = logging.getLogger(__name__)


def run_step(scheduler: Scheduler, runner: ModelRunner, turn: Turn) -> Mapping[str, int]:
    """Run the next step, and say how many tokens it had of each client."""
    batch = scheduler.schedule(turn)
    if batch is None:
        return {}
    try:
        logits = runner.run(batch)
    except Exception as error:
        _run_alone(batch, scheduler, runner, error)
    else:
        with together():
            scheduler.postprocess(batch, logits)
    return batch.tokens_by_client


def _run_alone(batch: Batch, scheduler: Scheduler, runner: ModelRunner, error: Exception) -> None:
    """Each sequence of a step that failed for itself, so that only the one at fault ends."""
    if len(batch.parts) == 1:
        scheduler.fail(batch.parts[0][0], error)
        return
    logger.warning("a step of %d requests failed and is run one by one", len(batch.parts), exc_info=error)
    for single in scheduler.alone(batch):
        try:
            scheduler.postprocess(single, runner.run(single))
        except Exception as failure:
            scheduler.fail(single.parts[0][0], failure)
