"""Continuous batching of our own: every step runs one token of each answer and a piece of the next prompt together.

Requests enter in the order they came, as soon as a slot is free; each leaves when it is done. Steering is per token, so
any mixture of strengths, and of banks, shares a step. In float32 every request gets the tokens that it gets alone; in
bfloat16 the rounding of a step depends on how many tokens it has, and near-ties can fall either way, as in any engine
that batches.
"""

import logging
import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import get_args

import numpy as np
import torch
from jaxtyping import Float32

from registry.errors import InvalidInput
from serving.engine.base import (
    EngineStats,
    EngineStopped,
    FinishReason,
    Generation,
    GenerationRequest,
    PromptTooLong,
    QueueFull,
    require_bank_of,
    require_tokens,
)
from serving.engine.sequence import outcome_of
from serving.engine.slots.model_runner import ModelRunner, window_of
from serving.engine.slots.scheduler import SlotScheduler
from serving.model.language_model import LanguageModel, require_layer
from serving.steering.plan import Operation

logger = logging.getLogger(__name__)

HiddenStates = list[dict[int, Float32[np.ndarray, "tokens d_model"]]]


@dataclass
class Reading:
    """A request for hidden states: one sequence is read between two steps."""

    sequences: Sequence[Sequence[int]]
    layers: Sequence[int]
    future: "Future[HiddenStates]" = field(default_factory=Future)
    found: HiddenStates = field(default_factory=list)


class SlotEngine:
    """Runs one model on a thread of its own, and borrows the model's network until ``close``.

    ``slots`` requests run at once and ``queue_limit`` more may wait. ``window`` bounds prompt and answer together, by
    default the model's context length. A step takes at most ``prefill_chunk`` tokens of prompts, which bounds how long
    a long prompt holds up the answers that run. Raises ``Mismatch`` for a model that slots cannot hold.
    """

    def __init__(
        self,
        model: LanguageModel,
        *,
        slots: int = 16,
        queue_limit: int = 64,
        window: int | None = None,
        prefill_chunk: int = 256,
    ) -> None:
        least = {"slots": (slots, 1), "queue_limit": (queue_limit, 0), "prefill_chunk": (prefill_chunk, 1)}
        for name, (value, limit) in {**least, "window": (2 if window is None else window, 2)}.items():
            if value < limit:
                raise InvalidInput(f"{name} is {value} and must be at least {limit}")
        self.model, self.window = model, window_of(model, window)
        self._facts = model.facts
        self._slots, self._queue_limit = slots, queue_limit
        self._decoder = ModelRunner(model, slots)
        self._scheduler = SlotScheduler(self._decoder, self.window, prefill_chunk)
        self._queue: deque[Generation] = deque()
        self._readings: deque[Reading] = deque()
        self._changed = threading.Condition()
        self._admits, self._closing = True, False
        self._problem = ""
        self._thread = threading.Thread(target=self._run, name="slot-engine", daemon=True)
        self._thread.start()

    def __enter__(self) -> "SlotEngine":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def operations(self) -> frozenset[Operation]:
        return frozenset(get_args(Operation))

    @property
    def problem(self) -> str:
        return self._problem

    def submit(self, request: GenerationRequest) -> Generation:
        require_bank_of(request.plan, self._facts)
        require_tokens(request.prompt_tokens, self._scheduler.vocabulary)
        if len(request.prompt_tokens) >= self.window:
            raise PromptTooLong(len(request.prompt_tokens), self.window)
        generation = Generation(request)
        with self._changed:
            self._require_admitting()
            waiting = len(self._queue) - (self._slots - self._scheduler.active)
            if waiting >= self._queue_limit:
                turns = 1 + len(self._queue) / self._slots
                raise QueueFull(self._queue_limit, max(1.0, turns * self._scheduler.typical_seconds))
            self._queue.append(generation)
            self._changed.notify_all()
        return generation

    def hidden_states(self, sequences: Sequence[Sequence[int]], layers: Sequence[int]) -> "Future[HiddenStates]":
        for layer in layers:
            require_layer(self.model, layer)
        for tokens in sequences:
            require_tokens(tokens, self._scheduler.vocabulary)
            if len(tokens) > self.window:
                raise PromptTooLong(len(tokens), self.window)
        reading = Reading(sequences, layers)
        with self._changed:
            self._require_admitting()
            if len(self._readings) >= self._queue_limit + self._slots:
                raise QueueFull(self._queue_limit, max(1.0, self._scheduler.typical_seconds))
            self._readings.append(reading)
            self._changed.notify_all()
        return reading.future

    def stats(self) -> EngineStats:
        with self._changed:
            queued = len(self._queue)
        scheduler = self._scheduler
        return EngineStats(
            active=scheduler.active,
            queued=queued,
            capacity=self._slots,
            queue_limit=self._queue_limit,
            prompt_tokens_total=scheduler.prompt_tokens,
            generated_tokens_total=scheduler.generated_tokens,
            steps_total=scheduler.steps,
            mean_batch=scheduler.generated_tokens / max(1, scheduler.steps),
        )

    def drain(self, seconds: float) -> bool:
        with self._changed:
            self._admits = False
            return self._changed.wait_for(lambda: not self._has_work(), timeout=seconds)

    def close(self) -> None:
        with self._changed:
            self._admits, self._closing = False, True
            self._changed.notify_all()
        self._thread.join()

    def _require_admitting(self) -> None:
        if self._problem:
            raise EngineStopped(self._problem)
        if not self._admits:
            raise EngineStopped("the engine is shutting down and admits no more requests")

    def _has_work(self) -> bool:
        return bool(self._queue or self._readings or self._scheduler.active)

    def _run(self) -> None:
        try:
            with torch.inference_mode():
                while self._await_work():
                    self._read_one()
                    self._step()
        except BaseException as error:
            logger.exception("the engine has stopped")
            self._problem = (
                f"the engine has stopped ({type(error).__name__}); its log says why, and the service has to be "
                "started again"
            )
        finally:
            self._end()

    def _await_work(self) -> bool:
        """Wait for something to do and admit what fits; whether to go on."""
        with self._changed:
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._closing or self._has_work())
            full = False
            for generation in tuple(self._queue):
                if generation.cancelled:
                    self._queue.remove(generation)
                    generation.finish(outcome_of(generation, "cancelled"))
                elif not full and self._scheduler.has_room():
                    self._queue.remove(generation)
                    self._admit(generation)
                else:
                    full = True
            return not self._closing

    def _admit(self, generation: Generation) -> None:
        """What beginning a request raises, as for want of memory, ends that request alone."""
        try:
            self._scheduler.admit(generation)
        except Exception as error:
            logger.exception("a request could not be begun")
            problem = f"the request could not be begun ({type(error).__name__}); try again"
            generation.finish(outcome_of(generation, "error", error=problem))

    def _step(self) -> None:
        """What one step raises ends the requests in it; those that wait, and the engine, live on."""
        try:
            self._scheduler.step()
        except Exception as error:
            logger.exception("a step of %d requests failed", self._scheduler.active)
            self._scheduler.end_all("error", f"the step failed ({type(error).__name__}); try again")

    def _read_one(self) -> None:
        """Read one sequence, so that many do not hold up the answers that run."""
        if not self._readings:
            return
        reading = self._readings[0]
        try:
            if len(reading.found) < len(reading.sequences):
                reading.found.append(self._decoder.hidden_states(reading.sequences[len(reading.found)], reading.layers))
        except Exception as error:
            self._readings.popleft()
            if reading.future.set_running_or_notify_cancel():
                reading.future.set_exception(error)
            return
        if len(reading.found) == len(reading.sequences) or reading.future.cancelled():
            self._readings.popleft()
            if reading.future.set_running_or_notify_cancel():
                reading.future.set_result(reading.found)

    def _end(self) -> None:
        reason: FinishReason = "error" if self._problem else "cancelled"
        with self._changed:
            self._admits = False
        self._scheduler.end_all(reason, self._problem)
        self._decoder.close()
        with self._changed:
            for generation in self._queue:
                generation.finish(outcome_of(generation, reason, error=self._problem))
            for reading in self._readings:
                if reading.future.set_running_or_notify_cancel():
                    reading.future.set_exception(EngineStopped("the engine stopped before it could answer"))
            self._queue.clear()
            self._readings.clear()
            self._changed.notify_all()
