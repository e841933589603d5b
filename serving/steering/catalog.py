"""From the registry to the live bank: aliases followed, vectors checked, banks swapped whole.

A request reads ``Catalog.live`` once and keeps what it got, so that a swap while it runs changes nothing for it.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from registry.errors import CorruptFile, Mismatch, NotFound, TrustTraceError, Unavailable
from registry.records import CHAMPION, RegisteredVector, vector_name
from registry.store import VectorStore
from registry.vectors import LinearProbe
from serving.model.language_model import LanguageModel
from serving.steering.bank import LiveVector, SteeringBank
from serving.steering.compatibility import require_belongs
from serving.steering.shared_state import SharedState

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Loaded:
    """A vector that can be steered with, and what lies beside it."""

    vector: LiveVector
    experiment_id: str | None
    """Where the run is in MLflow's UI."""

    @property
    def registered(self) -> RegisteredVector:
        return self.vector.registered

    @property
    def probe(self) -> LinearProbe | None:
        return self.vector.probe


@dataclass(frozen=True)
class Live:
    """What is served at one moment."""

    bank: SteeringBank
    loaded: Mapping[str, Loaded] = field(default_factory=dict)
    """By reference; those of the bank, in its order."""
    refused: Mapping[str, TrustTraceError] = field(default_factory=dict)
    """Dimensions that have registered vectors and no champion that can be served, and why."""

    def champion(self, dimension: str) -> Loaded | None:
        row = self.bank.champions.get(dimension)
        return None if row is None else self.loaded[self.bank.vectors[row].reference]


@dataclass(frozen=True)
class RegistryHealth:
    reached: bool = False
    """Whether the registry has ever answered."""
    answers: bool = False
    """Whether it answered when it was last asked."""
    problem: str = ""
    """What it said instead of an answer."""
    last_answer: float | None = None
    """When it last answered, in seconds since the epoch."""


class Catalog:
    """The live vectors of one model. Every method may be called from any thread; all but the properties may wait.

    Champions follow their aliases at each ``refresh``; vectors that an administrator loaded stay until unloaded.
    """

    def __init__(
        self,
        model: LanguageModel,
        connect: Callable[[], VectorStore] = VectorStore,
        shared: SharedState | None = None,
    ) -> None:
        self._model, self._connect, self._shared = model, connect, shared or SharedState()
        self._live = Live(SteeringBank(model.checkpoint.model, model.d_model))
        self._health = RegistryHealth()
        self._extra: dict[str, Loaded] = {}
        self._followed: tuple[str, ...] = ()
        self._store: VectorStore | None = None
        self._changing = threading.Lock()
        self._stopped = threading.Event()
        self.swaps = 0
        """How often the bank was replaced."""

    @property
    def live(self) -> Live:
        return self._live

    @property
    def health(self) -> RegistryHealth:
        return self._health

    def follow(self, seconds: float) -> None:
        """Refresh every so many seconds on a thread of its own, until ``stop``."""
        threading.Thread(target=self._poll, args=(seconds,), name="catalog", daemon=True).start()

    def stop(self) -> None:
        self._stopped.set()

    def refresh(self) -> None:
        """Look where the aliases point now. When the registry does not answer, what is live stays live."""
        try:
            champions, refused = self._champions()
        except Unavailable as error:
            if self._health.answers or not self._health.problem:
                logger.error("registry out of reach, serving what is loaded: %s", error)
            self._health = replace(self._health, answers=False, problem=str(error))
            return
        again = {reference: self._again(reference, known) for reference, known in tuple(self._extra.items())}
        with self._changing:
            if not self._health.answers:
                logger.info("registry reached; champions: %s", ", ".join(champions) or "none")
            self._extra |= {reference: one for reference, one in again.items() if reference in self._extra}
            self._adopt(champions, refused)
            self._health = RegistryHealth(reached=True, answers=True, last_answer=time.time())

    def load(self, reference: str) -> Loaded:
        """Make a version live beside the champions. Raises ``NotFound``, ``Mismatch``, ``Unavailable``, …"""
        with self._changing:
            registered = self.store().resolve(reference)
            found = self._current(registered)
            reference = found.vector.reference
            self._shared.update(lambda now: replace(now, vectors=(*_without(reference, now.vectors), reference)))
            self._extra[reference] = found
            self._swap(self._live_champions(), self._live.refused)
            return found

    def unload(self, reference: str) -> Loaded:
        """Take back a ``load``. Raises ``NotFound`` for what is not live, ``Mismatch`` for a champion."""
        with self._changing:
            found = self._extra.get(reference)
            if found is None:
                champions = [one.vector.reference for one in self._live_champions().values()]
                if reference in champions:
                    raise Mismatch(f"{reference} is live as champion; promote another version and it goes by itself")
                raise NotFound(f"{reference} is not loaded; loaded: {', '.join(self._extra) or 'none'}")
            self._shared.update(lambda now: replace(now, vectors=_without(reference, now.vectors)))
            del self._extra[reference]
            self._swap(self._live_champions(), self._live.refused)
            return found

    def follow_workers(self) -> None:
        """Load and unload what another worker did. What cannot be loaded is tried again at the next ``refresh``."""
        if self._shared.current().vectors == self._followed:
            return
        with self._changing:
            if self._shared.current().vectors != self._followed:
                self._adopt(self._live_champions(), self._live.refused)

    def store(self) -> VectorStore:
        """The registry's vectors. Raises ``Unavailable``."""
        if self._store is None:
            self._store = self._connect()
        return self._store

    def _poll(self, seconds: float) -> None:
        while not self._stopped.is_set():
            try:
                self.refresh()
            except Exception:
                logger.exception("the registry could not be read; trying again")
                self._health = replace(self._health, answers=False, problem="the registry could not be read")
            self._stopped.wait(seconds)

    def _champions(self) -> tuple[dict[str, Loaded], dict[str, TrustTraceError]]:
        champions: dict[str, Loaded] = {}
        refused: dict[str, TrustTraceError] = {}
        model = self._model.checkpoint.model
        for dimension in self.store().dimensions(model):
            try:
                registered = self.store().resolve(f"{vector_name(model, dimension)}@{CHAMPION}")
            except Unavailable:
                raise
            except TrustTraceError as error:
                self._refuse(dimension, error, refused)
                continue
            try:
                champions[dimension] = self._current(registered)
            except TrustTraceError as error:
                # A registry that answers and a file that cannot be had of it: this dimension's trouble alone.
                served = self._live.champion(dimension) if isinstance(error, Unavailable) else None
                if served is None:
                    self._refuse(dimension, error, refused)
                else:
                    logger.error("%s cannot be loaded, serving %s: %s", registered.uri, served.vector.reference, error)
                    champions[dimension] = served
        return champions, refused

    def _refuse(self, dimension: str, error: TrustTraceError, refused: dict[str, TrustTraceError]) -> None:
        refused[dimension] = error
        if str(self._live.refused.get(dimension)) != str(error):
            logger.error("no champion of %s can be served: %s", dimension, error)

    def _again(self, reference: str, known: Loaded) -> Loaded:
        """A version that an administrator loaded, with what its tags say now."""
        try:
            return self._current(self.store().resolve(reference))
        except TrustTraceError:
            return known

    def _adopt(self, champions: Mapping[str, Loaded], refused: Mapping[str, TrustTraceError]) -> None:
        """Make live what is wanted now; ``_followed`` last, because whoever reads it does not wait for the lock."""
        wanted = self._shared.current().vectors
        self._extra = self._wanted(wanted)
        self._swap(champions, refused)
        self._followed = wanted

    def _wanted(self, references: tuple[str, ...]) -> dict[str, Loaded]:
        """What administrators loaded, in this worker or another."""
        found = {one: self._extra[one] for one in references if one in self._extra}
        for reference in references:
            if reference not in found:
                try:
                    found[reference] = self._current(self.store().resolve(reference))
                except TrustTraceError as error:
                    logger.error("%s was loaded by another worker and cannot be here: %s", reference, error)
        return found

    def _current(self, registered: RegisteredVector) -> Loaded:
        """``registered`` loaded, with what its tags say now: a version can be calibrated after it went live."""
        known = self._live.loaded.get(f"{registered.name}/{registered.version}")
        if known is None:
            return self._load(registered)
        if known.registered == registered:
            return known
        return replace(known, vector=replace(known.vector, registered=registered))

    def _load(self, registered: RegisteredVector) -> Loaded:
        store, width = self.store(), self._model.d_model
        require_belongs(registered, self._model)
        try:
            probe = store.load_probe(registered, d_model=width)
            vector = LiveVector(registered, store.load(registered, d_model=width), probe)
            vector.vector.require_fits(model=self._model.checkpoint.model, d_model=width)
            return Loaded(vector, store.experiment_id(registered))
        except TrustTraceError:
            raise
        except Exception as error:  # whatever an artifact store raises for a file that is gone
            raise CorruptFile(
                f"{registered.uri} could not be read ({type(error).__name__}); register it again"
            ) from error

    def _live_champions(self) -> dict[str, Loaded]:
        found = {dimension: self._live.champion(dimension) for dimension in self._live.bank.champions}
        return {dimension: one for dimension, one in found.items() if one is not None}

    def _swap(self, champions: Mapping[str, Loaded], refused: Mapping[str, TrustTraceError]) -> None:
        loaded = self._extra | {one.vector.reference: one for one in champions.values()}
        rows = {reference: row for row, reference in enumerate(loaded)}
        bank = SteeringBank(
            self._live.bank.model,
            self._live.bank.d_model,
            tuple(one.vector for one in loaded.values()),
            {dimension: rows[one.vector.reference] for dimension, one in champions.items()},
        )
        if bank.identity != self._live.bank.identity or bank.champions != self._live.bank.champions:
            self.swaps += 1
            served = ", ".join(f"{dimension} {one.vector.reference}" for dimension, one in champions.items())
            logger.info("bank swapped; champions: %s", served or "none")
        self._live = Live(bank, loaded, refused)


def _without(reference: str, references: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(one for one in references if one != reference)
