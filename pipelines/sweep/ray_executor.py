"""A sweep's units on a Ray cluster: workers measure, and this process stores, logs and registers what they return.

An actor holds one checkpoint at a time, and fetches the next one's files meanwhile. It asks for as many CPUs as this
process has threads, so that sums are taken in the same order as here, and for one GPU where it needs one. What Ray
itself sends between processes is pickled by Ray.

``ray.util.ActorPool`` hands any work to any idle actor, and ``max_restarts`` brings an actor back without its model.
Here an actor keeps its checkpoint over all dimensions, and three deaths at one unit end the sweep: the pool is our own.
"""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Generic

import ray
import torch
from ray.exceptions import RayActorError

from pipelines.sweep.ray_cluster import connected, gpus_and_room
from pipelines.sweep.run import Plan, load_at, measure_unit
from pipelines.sweep.store import Result, UnitStore
from registry.checkpoints import Checkpoint
from registry.errors import Mismatch, TrustTraceError, Unavailable
from serving.model.language_model import LanguageModel, release
from serving.model.weights import discard, locate

ATTEMPTS = 3
"""How often a unit is begun before its workers' deaths are taken for its own fault."""


class Worker(Generic[Result]):
    """Measures units of one checkpoint after another; its weights are loaded when the first of them is asked for."""

    def __init__(self, plan: Plan[Result], threads: int) -> None:
        torch.set_num_threads(threads)
        self._plan = plan
        self._model: LanguageModel | None = None
        self._fetcher = ThreadPoolExecutor(1, thread_name_prefix="fetch")
        self._fetched: Checkpoint | None = None

    def measure(self, checkpoint: Checkpoint, dimension: str, following: Checkpoint | None) -> Result | TrustTraceError:
        """The unit's result, or the error to be raised where a user can read it.

        Of ``following``, the files are fetched meanwhile; what goes wrong with them is said when it is loaded.
        """
        if following is not None and following != self._fetched:
            self._fetched = following
            self._fetcher.submit(locate, following)
        try:
            if self._model is None:
                self._model = load_at(checkpoint, self._plan.placement)
            return measure_unit(self._plan, self._model, dimension)
        except TrustTraceError as error:
            return error.with_traceback(None)

    def finish(self, checkpoint: Checkpoint, delete: bool) -> None:
        if self._model is not None:
            release(self._model)
            self._model = None
        if delete:
            discard(checkpoint)


@dataclass
class _Errand:
    """What one actor is at: a checkpoint, the dimensions that are still to be measured, and what it does next."""

    worker: Any
    checkpoint: Checkpoint
    dimensions: deque[str]
    following: tuple[Checkpoint, deque[str]] | None = None
    attempts: int = 0


@dataclass
class _Crew(Generic[Result]):
    """Actors and the checkpoints that wait for them."""

    plan: Plan[Result]
    store: UnitStore[Result]
    hire: Callable[[], Any]
    delete: bool
    on_progress: Callable[[int], None]
    waiting: deque[tuple[Checkpoint, deque[str]]]
    size: int
    """How many actors there are at first."""
    running: dict[Any, _Errand] = field(default_factory=dict)
    """By the reference that Ray gave for the unit under way."""

    def begin(self, worker: Any, work: tuple[Checkpoint, deque[str]] | None = None) -> None:
        """Give ``worker`` what was kept for it, or what waits; without either it may go."""
        if work is None and self.waiting:
            work = self.waiting.popleft()
        if work is None:
            ray.kill(worker)
            return
        self._ask(_Errand(worker, *work))

    def _ask(self, errand: _Errand) -> None:
        errand.attempts += 1
        # A checkpoint is kept for who fetches it only when all have work and as much again waits.
        if errand.following is None and len(self.running) >= self.size - 1 and len(self.waiting) >= self.size:
            errand.following = self.waiting.popleft()
        following = errand.following[0] if errand.following else None
        self.running[errand.worker.measure.remote(errand.checkpoint, errand.dimensions[0], following)] = errand

    def advance(self) -> None:
        """Wait for one unit, store it, and give its worker something to do."""
        (done,), _ = ray.wait(list(self.running), num_returns=1)
        errand = self.running.pop(done)
        dimension = errand.dimensions[0]
        try:
            result: Result | TrustTraceError = ray.get(done)
        except RayActorError as error:
            self._replace(errand, error)
            return
        if isinstance(result, TrustTraceError):
            raise result
        self._save(result, errand.checkpoint, dimension)
        errand.dimensions.popleft()
        errand.attempts = 0
        if errand.dimensions:
            self._ask(errand)
        else:
            with suppress(RayActorError):
                # Waited for, so that neither the end of the actor nor the next checkpoint overtakes the deletion.
                ray.get(errand.worker.finish.remote(errand.checkpoint, self.delete))
            self.begin(errand.worker, errand.following)

    def _replace(self, errand: _Errand, error: RayActorError) -> None:
        """Another actor for the unit whose actor died; what it had measured before is stored already."""
        if errand.attempts == ATTEMPTS:
            raise Unavailable(
                f"{errand.attempts} workers died one after another at {errand.dimensions[0]} of "
                f"{errand.checkpoint.caption}, perhaps out of memory; see `ray logs`, or give executor=local"
            ) from error
        errand.worker = self.hire()
        self._ask(errand)

    def _save(self, result: Result, checkpoint: Checkpoint, dimension: str) -> None:
        expected = self.plan.digest(checkpoint, dimension)
        if result.digest != expected:
            raise Mismatch(
                f"a worker measured {dimension} of {checkpoint.caption} as {result.digest} and {expected} was asked "
                "for; its copy of the checkpoint has other weights: give all nodes the same files"
            )
        self.store.save(result)
        self.on_progress(2 * self.plan.statements[dimension].n)


@dataclass(frozen=True)
class RayExecutor:
    """Runs sweeps on the cluster at ``address``; see ``connected`` for what that may be."""

    address: str

    def __call__(
        self,
        plan: Plan[Result],
        store: UnitStore[Result],
        *,
        delete_after_use: bool = False,
        on_progress: Callable[[int], None] = lambda _: None,
    ) -> Iterator[Result]:
        """Yield every unit's result in the order of the local executor, computing those that ``store`` lacks.

        A result is stored as soon as it is measured, and yielded when all before it were.
        """
        missing = {}
        for checkpoint in plan.checkpoints:
            names = [name for name in plan.statements if store.find(plan.digest(checkpoint, name)) is None]
            on_progress(2 * sum(statements.n for name, statements in plan.statements.items() if name not in names))
            if names:
                missing[checkpoint] = deque(names)
        if not missing:
            yield from _in_order(plan, store, lambda: None)
            return
        with (
            connected(self.address, torch.get_num_threads()),
            _crew(plan, store, missing, delete_after_use, on_progress) as crew,
        ):
            yield from _in_order(plan, store, crew.advance)


def _in_order(plan: Plan[Result], store: UnitStore[Result], advance: Callable[[], None]) -> Iterator[Result]:
    for checkpoint in plan.checkpoints:
        for name in plan.statements:
            digest = plan.digest(checkpoint, name)
            while not store.path(digest).is_file():
                advance()
            result = store.find(digest)
            if result is None:
                raise Unavailable(f"{store.path(digest)} was damaged while the sweep ran; give the same command again")
            yield result.seen_as(checkpoint, plan.statements[name].dimension, plan.reading.pooling)


@contextmanager
def _crew(
    plan: Plan[Result],
    store: UnitStore[Result],
    missing: dict[Checkpoint, deque[str]],
    delete: bool,
    on_progress: Callable[[int], None],
) -> Iterator[_Crew[Result]]:
    """As many actors as the cluster has room for, each with a checkpoint; gone when the sweep is over or given up."""
    threads = torch.get_num_threads()
    gpus, room = gpus_and_room(plan.placement, threads)
    sent = ray.put(plan)
    hired: list[Any] = []
    kind = ray.remote(Worker).options(num_cpus=threads, num_gpus=gpus)

    def hire() -> Any:
        hired.append(kind.remote(sent, threads))
        return hired[-1]

    size = min(room, len(missing))
    crew = _Crew(plan, store, hire, delete, on_progress, deque(missing.items()), size)
    try:
        for _ in range(size):
            crew.begin(hire())
        yield crew
    finally:
        for worker in hired:
            ray.kill(worker)
