"""The sweep on this machine: one checkpoint in memory, its units one after another, finished ones skipped."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Protocol, TypeVar

from pipelines.model_io.activations import Activations, extract, unit_file
from pipelines.model_io.reading import Reading
from pipelines.statements.labelled import LabelledStatements
from pipelines.sweep.store import Result, UnitStore
from pipelines.sweep.unit import Unit
from registry.checkpoints import Checkpoint
from serving.model.language_model import LanguageModel, load, release
from serving.model.placement import Placement
from serving.model.weights import WeightFiles, discard, identity_of, locate

Result_co = TypeVar("Result_co", bound=Unit, covariant=True)


class Plan(Protocol[Result_co]):
    """The units of a sweep, and how one of them is measured."""

    @property
    def checkpoints(self) -> tuple[Checkpoint, ...]: ...

    @property
    def statements(self) -> Mapping[str, LabelledStatements]: ...

    @property
    def reading(self) -> Reading: ...

    @property
    def placement(self) -> Placement: ...

    @property
    def keep_activations(self) -> bool:
        """Whether the file of a unit's activations outlives its measurement."""

    @property
    def work(self) -> int:
        """What a progress bar counts: each statement once when it is read and once when it is measured."""

    def digest(self, checkpoint: Checkpoint, dimension: str) -> str:
        """Names a unit's result by all that decides it."""

    def measure(self, model: LanguageModel, dimension: str, activations: Activations, seconds: float) -> Result_co:
        """One unit's result; ``seconds`` is how long reading its activations took."""


def run_sweep(
    plan: Plan[Result],
    store: UnitStore[Result],
    *,
    delete_after_use: bool = False,
    on_progress: Callable[[int], None] = lambda _: None,
) -> Iterator[Result]:
    """Yield every unit's result in order, computing those that ``store`` does not have.

    The next checkpoint is fetched while this one is measured; one is in memory at a time. ``delete_after_use`` removes
    a hub revision from the local cache once all its units are done.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="fetch") as fetcher:
        waiting: Future[WeightFiles] | None = None
        for place, checkpoint in enumerate(plan.checkpoints):
            stored = {name: store.find(plan.digest(checkpoint, name)) for name in plan.statements}
            missing = [name for name, result in stored.items() if result is None]
            if missing:
                # What went wrong while fetching is raised here, in the fetcher's words.
                (waiting or fetcher.submit(locate, checkpoint)).result()
                following = _next_unfinished(plan, store, place)
                waiting = fetcher.submit(locate, following) if following else None
            on_progress(2 * sum(plan.statements[name].n for name in stored if name not in missing))
            computed = _measure_checkpoint(plan, checkpoint, missing, store, on_progress)
            for name, result in stored.items():
                if result is None:
                    yield next(computed)
                else:
                    yield result.seen_as(checkpoint, plan.statements[name].dimension, plan.reading.pooling)
            if missing:
                next(computed, None)  # the model is released when the last unit is done
                if delete_after_use:
                    discard(checkpoint)


def _next_unfinished(plan: Plan[Result], store: UnitStore[Result], place: int) -> Checkpoint | None:
    for checkpoint in plan.checkpoints[place + 1 :]:
        if not all(store.path(plan.digest(checkpoint, name)).is_file() for name in plan.statements):
            return checkpoint
    return None


def _measure_checkpoint(
    plan: Plan[Result],
    checkpoint: Checkpoint,
    dimensions: Sequence[str],
    store: UnitStore[Result],
    on_progress: Callable[[int], None],
) -> Iterator[Result]:
    """Measure one checkpoint on some dimensions, loading it once."""
    with loaded(checkpoint, plan.placement) as model:
        for name in dimensions:
            result = measure_unit(plan, model, name, on_progress)
            store.save(result)
            on_progress(plan.statements[name].n)
            yield result


def measure_unit(
    plan: Plan[Result], model: LanguageModel, dimension: str, on_progress: Callable[[int], None] = lambda _: None
) -> Result:
    """Read and measure one unit; its activations lie in a file of their own, mapped into memory.

    No batch holds statements of two units, so that a unit's numbers do not depend on which others are measured.
    """
    began, reading = time.perf_counter(), plan.reading
    with unit_file(plan.digest(model.checkpoint, dimension), keep=plan.keep_activations) as file:
        statements = plan.statements[dimension]
        activations = extract(
            model,
            statements.texts,
            prompts=statements.prompts,
            layers=reading.chosen_layers(model.n_layers, model.checkpoint.model),
            pooling=reading.pooling,
            file=file,
            on_progress=on_progress,
        )
        return plan.measure(model, dimension, activations, time.perf_counter() - began)


def load_at(checkpoint: Checkpoint, placement: Placement) -> LanguageModel:
    return load(
        checkpoint,
        precision=placement.precision,
        device=placement.device,
        device_map=placement.device_map,
        share_tokenizer=True,
    )


@contextmanager
def loaded(checkpoint: Checkpoint, placement: Placement) -> Iterator[LanguageModel]:
    model = load_at(checkpoint, placement)
    try:
        yield model
    finally:
        release(model)


def weights_identity(checkpoint: Checkpoint) -> str:
    """Stands for all that loading a checkpoint reads: a hub revision by commit, files by content."""
    return identity_of(checkpoint)
