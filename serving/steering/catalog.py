"""Catalog: the live vectors of one model, kept in step with the registry; banks are swapped whole.

A request reads ``Catalog.served`` once and keeps its value, so that a swap while it runs changes nothing for it.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from registry.artifacts import readable
from registry.errors import Mismatch, NotFound, TrustTraceError, Unavailable, first_line, redacted
from registry.records import CHALLENGER, CHAMPION, RegisteredVector, vector_name
from registry.store import VectorStore
from serving.steering.bank import ServedVector, SteeringBank
from serving.steering.compatibility import ModelFacts, require_fits
from serving.steering.shared_state import SharedState
from serving.steering.shipped_packs import Supply
from serving.steering.slow_files import SlowFiles

logger = logging.getLogger(__name__)

TICK = 0.05
"""Seconds between two looks for an announcement, which is a look at a file's date."""


@dataclass(frozen=True)
class ServedVectors:
    """The vectors that are served at one moment."""

    bank: SteeringBank
    refused: Mapping[str, TrustTraceError] = field(default_factory=dict)
    """Dimensions that have registered vectors and no champion that can be served, and why."""
    challengers: Mapping[str, str] = field(default_factory=dict)
    """From a dimension that has a champion to the reference of the vector that is tried in its place."""

    @cached_property
    def challenged(self) -> "ServedVectors":
        """The same with each challenger in its champion's place."""
        champions = {**self.bank.champions, **self.challengers}
        return ServedVectors(SteeringBank(self.bank.model, self.bank.vectors, champions), self.refused)


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
        model: ModelFacts,
        connect: Callable[[], VectorStore] = VectorStore,
        shared: SharedState | None = None,
        supply: Supply | None = None,
        with_challengers: bool = False,
    ) -> None:
        """``supply`` is called once, when the registry is first reached and before champions are looked for."""
        self._with_challengers = with_challengers
        self._challengers: dict[str, ServedVector] = {}
        self._model, self._connect, self._shared = model, connect, shared or SharedState()
        self._supply = supply
        self._served = ServedVectors(SteeringBank(model))
        self._health = RegistryHealth()
        self._loaded: dict[str, ServedVector] = {}
        self._followed: tuple[str, ...] = ()
        self._store: VectorStore | None = None
        self._slow_files = SlowFiles()
        self._changing = threading.Lock()
        self._stopped = threading.Event()
        self.swaps = 0
        """How often the bank was replaced."""

    @property
    def served(self) -> ServedVectors:
        return self._served

    @property
    def health(self) -> RegistryHealth:
        return self._health

    def follow(self, seconds: float) -> None:
        """Refresh every so many seconds, and when a change is announced, on a thread of its own, until ``stop``."""
        threading.Thread(target=self._poll, args=(seconds,), name="catalog", daemon=True).start()

    def announce(self) -> None:
        """The registry has changed: all workers refresh at once. Raises ``Unavailable``."""
        self._shared.update(lambda now: replace(now, announced=now.announced + 1))

    def stop(self) -> None:
        self._stopped.set()

    def refresh(self) -> None:
        """Look where the aliases point now. When the registry does not answer, what is live stays live."""
        try:
            self._supply_once()
            champions, refused = self._champions()
            challengers = self._found_challengers(champions) if self._with_challengers else {}
        except Unavailable as error:
            if self._health.answers or not self._health.problem:
                logger.error("registry out of reach, serving what is loaded: %s", error)
            self._health = replace(self._health, answers=False, problem=str(error))
            return
        again = {reference: self._again(reference, known) for reference, known in tuple(self._loaded.items())}
        with self._changing:
            if not self._health.answers:
                logger.info("registry reached; champions: %s", ", ".join(champions) or "none")
            self._loaded |= {reference: vector for reference, vector in again.items() if reference in self._loaded}
            self._challengers = challengers
            self._adopt(champions, refused)
            self._health = RegistryHealth(reached=True, answers=True, last_answer=time.time())

    def load(self, reference: str) -> ServedVector:
        """Make a version live beside the champions. Raises ``NotFound``, ``Mismatch``, ``Unavailable``, …"""
        vector = self._current(self.store().resolve(reference))
        reference = vector.reference
        with self._changing:
            self._shared.update(lambda now: replace(now, vectors=(*_without(reference, now.vectors), reference)))
            self._loaded[reference] = vector
            self._swap(self._live_champions(), self._served.refused)
            return vector

    def unload(self, reference: str) -> ServedVector:
        """Take back a ``load``. Raises ``NotFound`` for what is not live, ``Mismatch`` for a champion."""
        with self._changing:
            vector = self._loaded.get(reference)
            if vector is None:
                if reference in self._served.bank.champions.values():
                    raise Mismatch(f"{reference} is live as champion; promote another version and it goes by itself")
                raise NotFound(f"{reference} is not loaded; loaded: {', '.join(self._loaded) or 'none'}")
            self._shared.update(lambda now: replace(now, vectors=_without(reference, now.vectors)))
            del self._loaded[reference]
            self._swap(self._live_champions(), self._served.refused)
            return vector

    def follow_workers(self) -> None:
        """Load and unload what another worker did. What cannot be loaded is tried again at the next ``refresh``."""
        if self._shared.current().vectors == self._followed:
            return
        with self._changing:
            if self._shared.current().vectors != self._followed:
                self._adopt(self._live_champions(), self._served.refused)

    def store(self) -> VectorStore:
        """The registry's vectors. Raises ``Unavailable``."""
        if self._store is None:
            self._store = self._connect()
        return self._store

    def _poll(self, seconds: float) -> None:
        while not self._stopped.is_set():
            announced = self._shared.current().announced
            try:
                self.refresh()
            except Exception as error:
                logger.exception("the registry could not be read; trying again")
                problem = redacted(f"the registry could not be read: {first_line(error, 200)}")
                self._health = replace(self._health, answers=False, problem=problem)
            deadline = time.monotonic() + seconds
            while self._shared.current().announced == announced and time.monotonic() < deadline:
                if self._stopped.wait(min(TICK, seconds)):
                    return

    def _supply_once(self) -> None:
        if self._supply is not None:
            self._supply(self.store())
            self._supply = None

    def _champions(self) -> tuple[dict[str, ServedVector], dict[str, TrustTraceError]]:
        champions: dict[str, ServedVector] = {}
        refused: dict[str, TrustTraceError] = {}
        model = self._model.name
        for dimension in self.store().dimensions(model):
            try:
                registered = self.store().resolve(f"{vector_name(model, dimension)}@{CHAMPION}")
            except Unavailable:
                raise
            except TrustTraceError as error:
                # That none of its versions was promoted is nobody's fault.
                self._refuse(dimension, error, refused, logging.INFO if isinstance(error, NotFound) else logging.ERROR)
                continue
            try:
                champions[dimension] = self._found(registered)
            except TrustTraceError as error:
                # A registry that answers and a file that cannot be had of it: this dimension's trouble alone.
                served = self._served.bank.champion(dimension) if isinstance(error, Unavailable) else None
                if served is None:
                    self._refuse(dimension, error, refused)
                else:
                    logger.error("%s cannot be loaded, serving %s: %s", registered.uri, served.reference, error)
                    champions[dimension] = served
        return champions, refused

    def _found_challengers(self, champions: Mapping[str, ServedVector]) -> dict[str, ServedVector]:
        """The versions with the alias beside these champions; one that cannot be served is left out and logged."""
        challengers = {}
        for dimension, champion in champions.items():
            registered = None
            try:
                registered = self.store().resolve(f"{champion.registered.name}@{CHALLENGER}")
                vector = self._found(registered)
            except NotFound:
                continue
            except TrustTraceError as error:
                # Only what does not answer at all holds up the champions: a file that cannot be had does not.
                if registered is None and isinstance(error, Unavailable):
                    raise
                logger.error("the challenger of %s cannot be served: %s", dimension, error)
                continue
            if vector.reference != champion.reference:
                challengers[dimension] = vector
        return challengers

    def _refuse(
        self, dimension: str, error: TrustTraceError, refused: dict[str, TrustTraceError], level: int = logging.ERROR
    ) -> None:
        refused[dimension] = error
        if str(self._served.refused.get(dimension)) != str(error):
            logger.log(level, "no champion of %s can be served: %s", dimension, error)

    def _again(self, reference: str, known: ServedVector) -> ServedVector:
        """A version that an administrator loaded, with what its tags say now."""
        try:
            return self._current(self.store().resolve(reference))
        except TrustTraceError:
            return known

    def _adopt(self, champions: Mapping[str, ServedVector], refused: Mapping[str, TrustTraceError]) -> None:
        """Make live what is wanted now; ``_followed`` last, because whoever reads it does not wait for the lock."""
        wanted = self._shared.current().vectors
        self._loaded = self._wanted_vectors(wanted)
        self._swap(champions, refused)
        self._followed = wanted

    def _wanted_vectors(self, references: tuple[str, ...]) -> dict[str, ServedVector]:
        """What administrators loaded, in this worker or another."""
        vectors = {reference: self._loaded[reference] for reference in references if reference in self._loaded}
        for reference in references:
            if reference not in vectors:
                try:
                    vectors[reference] = self._current(self.store().resolve(reference))
                except TrustTraceError as error:
                    logger.error("%s was loaded by another worker and cannot be here: %s", reference, error)
        return vectors

    def _current(self, registered: RegisteredVector) -> ServedVector:
        """``registered`` loaded, with what its tags say now: a version can be calibrated after it went live."""
        known = self._served.bank.find(f"{registered.name}/{registered.version}")
        require_fits(registered, self._model)  # before anything is downloaded, and again when its tags have changed
        if known is None:
            return self._load(registered)
        return known if known.registered == registered else replace(known, registered=registered)

    def _found(self, registered: RegisteredVector) -> ServedVector:
        """The same for a version that is looked for again and again."""
        return self._slow_files.load(registered.uri, lambda: self._current(registered))

    def _load(self, registered: RegisteredVector) -> ServedVector:
        store, width = self.store(), self._model.d_model
        with readable(registered.uri):
            vector, probe = store.load_with_probe(registered, d_model=width)
            return ServedVector(registered, vector, probe, store.experiment_id(registered))

    def _live_champions(self) -> dict[str, ServedVector]:
        bank = self._served.bank
        return {vector.dimension: vector for vector in map(bank.champion, bank.champions) if vector is not None}

    def _swap(self, champions: Mapping[str, ServedVector], refused: Mapping[str, TrustTraceError]) -> None:
        challengers = {name: vector for name, vector in self._challengers.items() if name in champions}
        named_by_alias = (*champions.values(), *challengers.values())
        live = self._loaded | {vector.reference: vector for vector in named_by_alias}
        references = {dimension: vector.reference for dimension, vector in champions.items()}
        bank, before = SteeringBank(self._model, tuple(live.values()), references), self._served.bank
        if bank.identity != before.identity or bank.champions != before.champions:
            self.swaps += 1
            named = ", ".join(f"{dimension} {reference}" for dimension, reference in references.items())
            logger.info("bank swapped; champions: %s", named or "none")
        references = {dimension: vector.reference for dimension, vector in challengers.items()}
        self._served = ServedVectors(bank, refused, references)


def _without(reference: str, references: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(other for other in references if other != reference)
