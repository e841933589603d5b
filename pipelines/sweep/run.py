"""The sweep itself: one checkpoint in memory, all dimensions in one forward pass, finished units skipped."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from pipelines.activations import Activations, extract
from pipelines.statements.labelled import LabelledStatements
from pipelines.sweep.measure import measure
from pipelines.sweep.results import ResultStore
from pipelines.sweep.settings import ProbeSettings
from pipelines.sweep.unit import UnitResult, unit_digest
from registry.checkpoints import Checkpoint
from registry.packages import cache_root
from serving.model.language_model import LanguageModel, load, release
from serving.model.weights import WeightFiles, discard, locate


@dataclass(frozen=True)
class SweepPlan:
    """The units of a sweep: every checkpoint with every dimension's statements."""

    checkpoints: tuple[Checkpoint, ...]
    statements: Mapping[str, LabelledStatements]
    """By name of dimension."""
    settings: ProbeSettings

    def digest(self, checkpoint: Checkpoint, dimension: str) -> str:
        return unit_digest(_identity(checkpoint), self.statements[dimension].digest, self.settings.identity())

    @property
    def work(self) -> int:
        """What a progress bar counts: each statement once when it is read and once when it is probed."""
        return 2 * len(self.checkpoints) * sum(one.n for one in self.statements.values())


def run_sweep(
    plan: SweepPlan,
    store: ResultStore,
    *,
    delete_after_use: bool = False,
    on_progress: Callable[[int], None] = lambda _: None,
) -> Iterator[UnitResult]:
    """Yield every unit's result in order, computing those that ``store`` does not have.

    The next checkpoint is fetched while this one is measured; one is in memory at a time. ``delete_after_use`` removes
    a hub revision from the local cache once all its units are done.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="fetch") as fetcher:
        todo = [checkpoint for checkpoint in plan.checkpoints if _missing(plan, store, checkpoint)]
        fetched = {checkpoint: fetcher.submit(locate, checkpoint) for checkpoint in todo[:1]}
        for checkpoint in plan.checkpoints:
            missing = _missing(plan, store, checkpoint)
            if missing:
                following = todo[todo.index(checkpoint) + 1 :][:1]
                _await(fetched.pop(checkpoint))
                fetched.update({one: fetcher.submit(locate, one) for one in following})
            done = sum(one.n for name, one in plan.statements.items() if name not in missing)
            on_progress(2 * done)
            computed = _measure_checkpoint(plan, checkpoint, missing, store, on_progress) if missing else iter(())
            for dimension in plan.statements:
                if dimension in missing:
                    yield next(computed)
                else:
                    yield _stored(plan, store, checkpoint, dimension)
            for _ in computed:
                pass
            if missing and delete_after_use:
                discard(checkpoint)


def _missing(plan: SweepPlan, store: ResultStore, checkpoint: Checkpoint) -> tuple[str, ...]:
    return tuple(name for name in plan.statements if store.find(plan.digest(checkpoint, name)) is None)


def _stored(plan: SweepPlan, store: ResultStore, checkpoint: Checkpoint, dimension: str) -> UnitResult:
    result = store.find(plan.digest(checkpoint, dimension))
    assert result is not None
    return result


def _await(fetched: "Future[WeightFiles]") -> None:
    """Raise here what went wrong while fetching, in the words of the fetcher."""
    fetched.result()


def _measure_checkpoint(
    plan: SweepPlan,
    checkpoint: Checkpoint,
    dimensions: Sequence[str],
    store: ResultStore,
    on_progress: Callable[[int], None],
) -> Iterator[UnitResult]:
    """Measure one checkpoint on some dimensions: one pass of the model over all their statements together."""
    settings = plan.settings
    started = time.perf_counter()
    with _loaded(checkpoint, settings) as model, _scratch() as scratch:
        n_layers, precision, weights_digest = (
            model.n_layers,
            str(model.dtype).removeprefix("torch."),
            model.weights_digest,
        )
        layers = settings.chosen_layers(n_layers, checkpoint.model)
        device = model.device
        texts = [text for name in dimensions for text in plan.statements[name].texts]
        activations = extract(
            model,
            texts,
            layers=layers,
            pooling=settings.pooling,
            path=scratch / "activations.npy",
            on_progress=on_progress,
        )
        reading = (time.perf_counter() - started) / len(texts)
        start = 0
        for name in dimensions:
            statements = plan.statements[name]
            began = time.perf_counter()
            measured = measure(_slice(activations, start, statements.n), statements, settings, device=device)
            start += statements.n
            result = UnitResult(
                digest=plan.digest(checkpoint, name),
                checkpoint=checkpoint,
                weights_digest=weights_digest,
                dimension=name,
                statements_digest=statements.digest,
                statements_source=statements.source,
                n_layers=n_layers,
                precision=precision,
                scores=measured.scores,
                directions=measured.directions,
                probabilities=measured.probabilities,
                seconds=time.perf_counter() - began + reading * statements.n,
            )
            store.save(result)
            on_progress(statements.n)
            yield result


def _slice(activations: Activations, start: int, n: int) -> Activations:
    return activations.rows(start, start + n)


@contextmanager
def _loaded(checkpoint: Checkpoint, settings: ProbeSettings) -> Iterator[LanguageModel]:
    model = load(checkpoint, precision=settings.precision, device=settings.device, device_map=settings.device_map)
    try:
        yield model
    finally:
        release(model)


@contextmanager
def _scratch() -> Iterator[Path]:
    root = cache_root() / "scratch"
    root.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=root) as directory:
        yield Path(directory)


def _identity(checkpoint: Checkpoint) -> str:
    """Stands for a checkpoint's weights without loading them: a hub revision by name, files by their content."""
    if checkpoint.repo.startswith("packaged:") or Path(checkpoint.repo).is_absolute():
        files = locate(checkpoint)
        return files.random_digest(0) if checkpoint.is_random_init else files.digest()
    return f"{checkpoint.repo}@{checkpoint.revision}"
