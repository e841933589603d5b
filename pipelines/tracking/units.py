"""A unit's own run: a child of its sweep's, with its data set, its checkpoint, and what they are tagged by."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache

import mlflow
from mlflow.data.pandas_dataset import PandasDataset, from_pandas
from mlflow.entities import LoggedModelInput, Run

from pipelines.estimators.estimate import Estimate
from pipelines.statements.labelled import LabelledStatements
from pipelines.sweep.unit import Unit
from pipelines.tracking.links import run_path
from pipelines.tracking.runs import DESCRIPTION, child_run, code_commit
from registry.checkpoint_store import CheckpointStore
from registry.records import RegisteredCheckpoint


@contextmanager
def unit_run(
    result: Unit, statements: LabelledStatements, parent: Run, checkpoints: CheckpointStore, *, measured: str
) -> Iterator[tuple[str, RegisteredCheckpoint]]:
    """The id of a child run that has the unit's data set as input, and the unit's registered checkpoint.

    Its description says what was ``measured``, and where the figures are.
    """
    tags = _tags(result) | {DESCRIPTION: _described(result, measured, parent)}
    with child_run(f"{result.dimension} · {result.checkpoint.label}", tags, parent) as run:
        checkpoint = checkpoints.register(result.checkpoint, result.weights_digest)
        source = LoggedModelInput(model_id=checkpoint.model_id)
        mlflow.log_input(dataset_of(statements), context="probing", model=source)
        yield run.info.run_id, checkpoint


def _described(result: Unit, measured: str, parent: Run) -> str:
    command = run_path(parent.info.experiment_id, parent.info.run_id)
    return (
        f"**{result.dimension} in {result.checkpoint.model}, {result.checkpoint.caption}: {measured}.**\n\n"
        f"The metrics `layer/…` are over layers. Tables and figures of all checkpoints: [the command's run]({command})."
    )


def by_layer(estimates: Mapping[int, Estimate]) -> str:
    """The estimates of the first and the last layer, neither of which was chosen by what it shows, and their n."""
    first, last = min(estimates), max(estimates)
    told = ", ".join(f"{estimates[layer]} at layer {layer}" for layer in dict.fromkeys((first, last)))
    return f"{told} (n = {estimates[first].n:,} statements)"


def unit_params(result: Unit) -> dict[str, object]:
    return {
        "model": result.checkpoint.model,
        "repo": result.checkpoint.repo,
        "revision": result.checkpoint.revision,
        "step": result.checkpoint.step,
        "dimension": result.dimension,
        "statements": result.statements_source,
        "precision": result.precision,
    }


def _tags(result: Unit) -> dict[str, str]:
    return {
        "dimension": result.dimension,
        "checkpoint": result.checkpoint.label,
        "unit_digest": result.digest,
        "statements_digest": result.statements_digest,
        "weights_digest": result.weights_digest,
        "code_commit": code_commit(),
    }


def log_statements(statements: Iterable[LabelledStatements]) -> None:
    """Each dimension's statements as a data set of the active run, with its digest."""
    for labelled in statements:
        mlflow.log_input(dataset_of(labelled), context=labelled.dimension)


@lru_cache(maxsize=16)
def dataset_of(statements: LabelledStatements) -> PandasDataset:
    """Made once for all units of a dimension: MLflow looks at every text to tell the types of columns."""
    return from_pandas(
        statements.to_frame(),
        name=f"{statements.dimension}-{statements.source}".replace(":", "-")[:200],
        targets="label",
        digest=statements.digest[:32],
    )
