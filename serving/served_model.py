"""Served model, from loading to draining: one network, its engine, and the vectors that are live for it."""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from registry.checkpoint_store import CheckpointStore
from registry.checkpoints import Checkpoint, CheckpointSeries
from registry.counts import counted
from registry.embedded import embedded_seed, model_argument, registry_name
from registry.errors import InvalidInput, NotFound, TrustTraceError, Unavailable, UnknownName
from registry.model_names import named_model
from registry.store import VectorStore
from serving.engine.base import Engine
from serving.engine.slots.engine import SlotEngine
from serving.engine.slots.kernels import Kernels
from serving.engine.vllm.engine import VllmEngine, norms_read
from serving.engine.vllm.version import installed_release, require_tested
from serving.lasting_objects import pass_over_lasting_objects
from serving.model.chat_templates import CHAT_TEMPLATES
from serving.model.hub import is_on_hub
from serving.model.language_model import LanguageModel, described, load
from serving.model.norms import residual_norms
from serving.model.sources import find_series
from serving.model.text_tokens import keep_no_words
from serving.model.weights import tokenizer_revision
from serving.settings import Settings
from serving.steering.catalog import Catalog
from serving.steering.limits import Limits
from serving.steering.request import DimensionSteering, SteeringRequest
from serving.steering.resolver import SteeringResolver
from serving.steering.shared_state import SharedState
from serving.steering.shipped_packs import PackSupply, supply_vectors

logger = logging.getLogger(__name__)

Status = Literal["loading", "waiting for the registry", "default not served", "ready", "draining", "failed"]
Part = Literal["model", "engine", "registry", "default"]
"""A part of the service that can be in trouble."""


@dataclass(frozen=True)
class LoadedModel:
    """The parts of the model that requests need, once it is loaded."""

    model: LanguageModel
    engine: Engine
    catalog: Catalog
    norms: Mapping[int, float]
    """Median length of hidden states, by layer."""
    since: int
    """When it was loaded, in seconds since the epoch."""

    @property
    def name(self) -> str:
        return self.model.checkpoint.model


class ServedModel:
    """The model and its state. It loads on a thread of its own, so that health checks are answered meanwhile."""

    def __init__(
        self, settings: Settings, connect: Callable[[], VectorStore] = VectorStore, shared: SharedState | None = None
    ) -> None:
        self.settings = settings
        self._connect = connect
        self._shared = shared or SharedState()
        self._running: LoadedModel | None = None
        self._problem = ""
        self._draining = False
        self._pack: PackSupply | None = None
        self._loader = threading.Thread(target=self._load, name="loader", daemon=True)

    def start(self) -> None:
        self._loader.start()

    @property
    def defaults(self) -> DimensionSteering:
        """Steering that requests inherit; replaced whole, in every worker."""
        return self._shared.current().default

    @defaults.setter
    def defaults(self, default: DimensionSteering) -> None:
        self._shared.update(lambda changes: replace(changes, default=default))

    @property
    def status(self) -> Status:
        if self._draining:
            return "draining"
        if self._problem:
            return "failed"
        if self._running is None:
            return "loading"
        if self._running.engine.problem:
            return "failed"
        if not (self._running.catalog.health.reached or self.settings.allow_unsteered):
            return "waiting for the registry"
        return "default not served" if self._default_problem(self._running) else "ready"

    @property
    def trouble(self) -> tuple[Part, str] | None:
        """The part that is in trouble, and why, where there is a reason."""
        if self._problem:
            return "model", self._problem
        if self._running is None:
            return None
        parts: tuple[tuple[Part, str], ...] = (
            ("engine", self._running.engine.problem),
            ("registry", self._running.catalog.health.problem),
            ("default", self._default_problem(self._running)),
        )
        return next(((part, problem) for part, problem in parts if problem), None)

    def steering_resolver(self, loaded: LoadedModel) -> SteeringResolver:
        """Everything that a request's steering is resolved against, at this moment."""
        limits, catalog = Limits(loaded.norms, self.settings.dose_limit), loaded.catalog
        return SteeringResolver(catalog.served, catalog.health, limits, self.defaults, loaded.engine.operations)

    def _default_problem(self, loaded: LoadedModel) -> str:
        """Why the server's default steering cannot be applied to the vectors that are live."""
        if not loaded.catalog.health.reached:
            return ""
        try:
            self.steering_resolver(loaded).resolve(SteeringRequest())
        except TrustTraceError as error:
            return f"the server's default steering cannot be applied: {error}"
        return ""

    @property
    def loaded(self) -> LoadedModel | None:
        return self._running

    @property
    def pack(self) -> PackSupply | None:
        """What became of the pack that the settings name; ``None`` until the registry was reached."""
        return self._pack

    def require_loaded(self) -> LoadedModel:
        """The loaded model. Raises ``Unavailable`` while there is none to ask."""
        if self._draining:
            raise Unavailable("the service is shutting down; ask another one")
        if self._running is None:
            raise Unavailable(self._problem or f"{self.settings.model} is loading; try again in a moment")
        self._running.catalog.follow_workers()
        return self._running

    def drain(self, seconds: float | None = None) -> bool:
        """Admit nothing more and wait for what runs, by default as long as the settings allow; whether it all ended."""
        self._draining = True
        if self._running is None:
            return True
        self._running.catalog.stop()
        ended = self._running.engine.drain(self.settings.drain if seconds is None else seconds)
        self._running.engine.close()
        CHAT_TEMPLATES.close()
        return ended

    def _load(self) -> None:
        try:
            self._running = self._loaded()
        except TrustTraceError as error:
            self._problem = str(error)
            logger.error("the model cannot be served: %s", error)
        except Exception as error:
            self._problem = f"the model could not be loaded ({type(error).__name__}); the service's log says more"
            logger.exception("the model could not be loaded")
        else:
            pass_over_lasting_objects(once_collected=True)  # loading leaves some
            checkpoint = self._running.model.checkpoint
            logger.info(
                "%s is served: %s, revision %s of %s",
                *(checkpoint.model, checkpoint.label, checkpoint.revision, checkpoint.repo),
            )

    def _loaded(self) -> LoadedModel:
        settings = self.settings
        model, engine, norms = started(settings)
        if getattr(model.tokenizer, "chat_template", None):
            CHAT_TEMPLATES.start()

        def supply(store: VectorStore) -> PackSupply:
            self._pack = supply_vectors(settings.pack, model.facts, store)
            return self._pack

        catalog = Catalog(model.facts, self._connect, self._shared, supply, bool(settings.challenger))
        try:
            catalog.refresh()
        except TrustTraceError:
            raise
        except Exception:  # the registry's trouble, not the model's: those that follow say it and try again
            logger.info("%s is loaded, and its registry could not be read", model.checkpoint.model)
        catalog.follow(settings.poll)
        return LoadedModel(model, engine, catalog, norms, int(time.time()))


def started(settings: Settings) -> tuple[LanguageModel, Engine, Mapping[int, float]]:
    """The model to serve, the engine that the settings name, and ``residual_norms``."""
    checkpoint = find_checkpoint(settings)
    size: Any = {"slots": settings.slots, "queue_limit": settings.queue_limit, "window": settings.window}
    if settings.engine == "vllm":
        _require_meant_for_vllm(settings)
        require_tested(installed_release())
        model = described(checkpoint, precision=settings.precision)
    else:
        model = load(checkpoint, precision=settings.precision, device=settings.device)
    keep_no_words(model.tokenizer)
    if settings.engine == "vllm":
        engine = VllmEngine(model, arguments=settings.vllm_arguments, **size)
        return model, engine, norms_read(model, engine)
    norms = residual_norms(model)
    kernels = Kernels(four_bit=settings.four_bit, batch_invariant=settings.batch_invariant)
    return model, SlotEngine(model, **size, prefix_cache=settings.prefix_cache, kernels=kernels), norms


def _require_meant_for_vllm(settings: Settings) -> None:
    """Raise ``InvalidInput`` for a setting that vLLM would not hear."""
    if settings.batch_invariant:
        raise InvalidInput(
            "TRUSTTRACE_BATCH_INVARIANT is true and TRUSTTRACE_ENGINE vllm, which has a setting of its own; "
            "unset it, and set VLLM_BATCH_INVARIANT=1 where vLLM supports that"
        )
    if settings.device != "auto":
        raise InvalidInput(
            f"TRUSTTRACE_DEVICE is {settings.device} and TRUSTTRACE_ENGINE vllm, which takes the devices that "
            "CUDA_VISIBLE_DEVICES shows; leave the device at auto"
        )
    if settings.workers > 1:
        raise InvalidInput(
            f"TRUSTTRACE_WORKERS is {settings.workers} and TRUSTTRACE_ENGINE vllm, which would start one vLLM "
            "for each; leave the workers at 1 and give vLLM more of the machine by TRUSTTRACE_VLLM_ARGUMENTS"
        )


def find_checkpoint(settings: Settings) -> Checkpoint:
    """The one checkpoint to serve: of a known series, or of one whose checkpoints the registry remembers by name.

    Raises ``InvalidInput`` for a selection of several, and what ``find_series`` raises.
    """
    try:
        series = find_series(settings.model, name=settings.model_name)
    except UnknownName:
        given, model = named_model(settings.model)
        registered = _registered_series(model, settings.model_name or given)
        if registered is None:
            _require_made(model)
            raise
        series = registered
    chosen = series.select(settings.checkpoint)
    if len(chosen) != 1:
        raise InvalidInput(
            f"TRUSTTRACE_CHECKPOINT {settings.checkpoint!r} selects {counted(len(chosen), 'checkpoint')} of "
            f"{series.model}; one is served, such as last"
        )
    _log_choice(series, chosen[0])
    return chosen[0]


def _require_made(model: str) -> None:
    """Raise ``NotFound`` for the embedded series, which nothing has to be looked up for but the registry."""
    if embedded_seed(model) is not None:
        raise NotFound(
            f"the registry has no checkpoints of {model} yet: make them with mlflow run . -e probe --env-manager local "
            f"-P model={model_argument(model)}, or set MLFLOW_TRACKING_URI to where they are"
        )


def _log_choice(series: CheckpointSeries, checkpoint: Checkpoint) -> None:
    """Say which checkpoint of how many was chosen, what is none of the series, and whose tokenizer is taken."""
    logger.info("%s of the %d checkpoints of %s was chosen", checkpoint.label, len(series), series.model)
    for left in series.left_out:
        logger.info("left out of %s: %s: %s", series.model, left.revision, left.reason)
    if is_on_hub(checkpoint.repo):
        tokenizer = tokenizer_revision(checkpoint.repo, checkpoint.revision)
        if tokenizer != checkpoint.revision:
            logger.warning(
                "%s has no tokenizer at %s: that of %s is used", checkpoint.repo, checkpoint.revision, tokenizer
            )


def _registered_series(model: str, name: str) -> CheckpointSeries | None:
    """The trained checkpoints of ``ckpt.<model>``, by another ``name`` if there is one: a newer version stands for an
    older one of the same place.
    """
    model = registry_name(model)
    try:
        versions = CheckpointStore().list(model)
    except TrustTraceError:
        return None
    registered = [version.checkpoint for version in reversed(versions) if "repo" in version.tags]
    trained = [replace(checkpoint, model=name or model) for checkpoint in registered if not checkpoint.is_random_init]
    newest = {checkpoint.label: checkpoint for checkpoint in trained}
    return CheckpointSeries(name or model, tuple(newest.values())) if newest else None
