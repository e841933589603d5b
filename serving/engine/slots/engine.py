"""Slot engine: continuous batching of our own; every step runs one token of each answer and a piece of the prompts.

Requests enter in the order they came, as soon as a slot is free; each leaves when it is done. Steering is per token, so
any mixture of strengths, and of banks, shares a step. In float32 every request gets the tokens that it gets alone; in
bfloat16 the rounding of a step depends on how many tokens it has, and near-ties can fall either way, as in any engine
that batches, unless its ``kernels`` are batch invariant. It stands beside vLLM, which needs an environment of its own,
since 16 requests at once are 1.6 times as fast as ``generate`` on a static batch that shares one setting.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from typing import get_args

import torch

from registry.errors import InvalidInput
from serving.engine.admission import Admission
from serving.engine.base import EngineStopped, FinishReason, Generation, GenerationRequest, HiddenStates, Keep
from serving.engine.grammar import Grammar, GrammarCompiler
from serving.engine.requirements import require_bank_of, require_room, require_tokens
from serving.engine.sequence import outcome_of
from serving.engine.slots.kernels import PLAIN, Kernels
from serving.engine.slots.model_runner import ModelRunner
from serving.engine.slots.prefix_cache import PrefixCache
from serving.engine.slots.reading import Readings, StateReading
from serving.engine.slots.scheduler import Scheduler
from serving.engine.slots.slot_sequence import SlotSequence
from serving.engine.slots.steps import run_step
from serving.engine.slots.turns import Turns
from serving.engine.slots.weight_packing import in_huge_pages
from serving.engine.stats import EngineStats
from serving.engine.window import end_tokens, window_of
from serving.model.language_model import LanguageModel, require_layer
from serving.steering.plan import Operation

logger = logging.getLogger(__name__)


class SlotGeneration(Generation):
    """A generation with the grammar that it must follow, if there is one."""

    def __init__(self, request: GenerationRequest, grammar: Grammar | None) -> None:
        super().__init__(request)
        self.grammar = grammar


class SlotEngine:
    """Runs one model on a thread of its own, and borrows the model's network until ``close``.

    ``slots`` requests run at once and ``queue_limit`` more may wait. ``window`` bounds prompt and answer together, by
    default the model's context length. A step takes at most ``prefill_chunk`` tokens of prompts, or half as many where
    several clients compute, which bounds how long a long prompt holds up the answers that run. ``prefix_cache`` bytes
    of keys and values of earlier requests are kept for prompts that begin with the same tokens; 0 keeps none. Raises
    ``Mismatch`` for a model that slots cannot hold.
    """

    def __init__(
        self,
        model: LanguageModel,
        *,
        slots: int = 16,
        queue_limit: int = 64,
        window: int | None = None,
        prefill_chunk: int = 256,
        prefix_cache: int = 0,
        kernels: Kernels = PLAIN,
    ) -> None:
        least = {
            "slots": (slots, 1),
            "queue_limit": (queue_limit, 0),
            "prefill_chunk": (prefill_chunk, 1),
            "prefix_cache": (prefix_cache, 0),
        }
        for name, (value, limit) in {**least, "window": (2 if window is None else window, 2)}.items():
            if value < limit:
                raise InvalidInput(f"{name} is {value} and must be at least {limit}")
        self.model, self.window = model, window_of(model, window)
        self._facts = model.facts
        self._vocabulary = model.vocabulary
        self._admission = Admission(slots, queue_limit)
        self._runner = ModelRunner(model, slots, kernels)
        in_huge_pages(self._runner.products)
        self._prefixes = PrefixCache(prefix_cache)
        self._scheduler = Scheduler(
            model,
            self._runner.cache,
            slots=slots,
            window=self.window,
            prefill_chunk=prefill_chunk,
            prefixes=self._prefixes,
            ended=lambda running: self._admission.ended(running.seconds),
        )
        self._grammars = GrammarCompiler(model.tokenizer, self._vocabulary, end_tokens(model))
        self._queue: deque[SlotGeneration] = deque()
        self._readings = Readings(self._runner, self._admission, prefill_chunk, max(1, slots // 4))
        on_cpu = model.device.type == "cpu"  # by the engine's thread alone: nobody is charged for what else runs here
        self._turns = Turns(prefill_chunk, time.thread_time if on_cpu else time.perf_counter)
        self._closing = False
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
        return self._admission.problem

    def submit(self, request: GenerationRequest) -> Generation:
        require_bank_of(request.plan, self._facts)
        require_tokens(request.prompt_tokens, self._vocabulary)
        require_room(request.prompt_tokens, self.window, is_answered=request.sampling.max_tokens > 0)
        generation = SlotGeneration(request, self._grammars.compile(request.sampling))
        with self._admission.changed:
            self._admission.admit(self._beyond_limit(request.client))
            self._queue.append(generation)
        return generation

    def _beyond_limit(self, client: str) -> int:
        """How many more than the queue's limit may wait, that nobody who holds little is refused for others' sake."""
        slots, waiting = self._admission.slots, [each.request.client for each in self._waiting()]
        places = waiting.count(client) + self._scheduler.held[client] + self._readings.held(client)
        return slots if client and places < max(1, slots // 4) else 0

    def _waiting(self) -> list[SlotGeneration | SlotSequence]:
        return [*self._scheduler.aside, *self._queue]

    def hidden_states(
        self,
        sequences: Sequence[Sequence[int]],
        layers: Sequence[int],
        client: str = "",
        keep: Keep | None = None,
    ) -> "Future[HiddenStates]":
        for layer in layers:
            require_layer(self.model, layer)
        for tokens in sequences:
            require_tokens(tokens, self._vocabulary)
            require_room(tokens, self.window, is_answered=False)
        reading = StateReading(sequences, layers, client, keep)
        with self._admission.changed:
            self._admission.admit(self._beyond_limit(client))
            self._readings.add(reading)
        return reading.future

    def stats(self) -> EngineStats:
        scheduler, admission = self._scheduler, self._admission
        return EngineStats(
            active=scheduler.active,
            queued=len(self._queue) + len(scheduler.aside) + len(self._readings),
            capacity=admission.slots,
            queue_limit=admission.queue_limit,
            prompt_tokens_total=scheduler.prompt_tokens,
            generated_tokens_total=scheduler.generated_tokens,
            steps_total=scheduler.steps,
            mean_batch=scheduler.generated_tokens / max(1, scheduler.steps),
            prefix_cache=(self._prefixes.held, self._prefixes.limit),
            slots=(self._runner.cache.held + self._held_aside(), self._held_when_full()),
            weights=(self._runner.weight_bytes, self._runner.four_bit_bytes),
        )

    def _held_aside(self) -> int:
        """Bytes."""
        kept = [sequence.aside for sequence in self._scheduler.aside]
        return sum(tensor.nbytes for tensor in kept if tensor is not None) + self._readings.nbytes

    def _held_when_full(self) -> int:
        """Bytes, when every slot is filled to the window, and what may stand beside the slots is as long."""
        cache = self._runner.cache
        full = cache.held_when_full(self._admission.slots, self.window)
        beside = self._scheduler.most_aside + self._readings.most_amid
        return full + beside * self.window * cache.bytes_per_token

    def drain(self, seconds: float) -> bool:
        return self._admission.drain(seconds)

    def close(self) -> None:
        with self._admission.changed:
            self._closing = True
            self._admission.close()
        self._thread.join()

    def _run(self) -> None:
        try:
            with torch.inference_mode():
                while self._await_work():
                    self._take_turn()
        except BaseException as error:
            logger.exception("the engine has stopped")
            self._admission.close(
                f"the engine has stopped ({type(error).__name__}); its log says why, and the service has to be "
                "started again"
            )
        finally:
            with torch.inference_mode():  # what leaves a slot moves others' keys and values
                self._end()

    def _await_work(self) -> bool:
        """Wait for something to do and admit what fits; whether to go on."""
        with self._admission.changed:
            self._admission.changed.wait_for(
                lambda: self._closing or self._waiting() or self._readings or self._scheduler.active
            )
            for generation in [generation for generation in self._queue if generation.cancelled]:
                self._queue.remove(generation)
                self._drop(generation, "cancelled")
            while self._begin_next():
                pass
            at_work = {*self._scheduler.held, *self._readings.waiting, *_clients(self._waiting())}
            self._turns.among(at_work)
            return not self._closing

    def _begin_next(self) -> bool:
        """Begin the first request of those whose client has the fewest slots, or go on with it; whether there was one.

        So a client with many requests has its next one begin after the first of every other client. Of clients that
        hold as many, the one for which least was computed goes first; clients that are not to compute next go last.
        """
        held = self._scheduler.held
        waiting = self._waiting()
        with_room = {client for client in _clients(waiting) if self._scheduler.has_room(client)}
        able = [each for each in waiting if each.request.client in with_room]
        if not able:
            return False
        computing = self._turns.computing(with_room)

        def rank(each: SlotGeneration | SlotSequence) -> tuple[bool, int, float]:
            client = each.request.client
            return client not in computing, held[client], self._turns.lead(client)

        chosen = min(able, key=rank)
        if isinstance(chosen, SlotSequence):
            self._scheduler.resume(chosen)
        else:
            self._queue.remove(chosen)
            self._admit(chosen)
        return True

    def _admit(self, generation: SlotGeneration) -> None:
        """What beginning a request raises, such as a lack of memory, ends that request alone."""
        try:
            self._scheduler.admit(generation, generation.grammar)
        except Exception as error:
            logger.exception("a request could not be begun")
            self._drop(generation, "error", f"the request could not be begun ({type(error).__name__}); try again")

    def _drop(self, generation: Generation, reason: FinishReason, error: str = "") -> None:
        generation.finish(outcome_of(generation, reason, error=error))
        self._admission.ended()

    def _take_turn(self) -> None:
        """Read a piece of a text and run a step of the clients that are to compute next, and charge them for it."""
        turns = self._turns
        turn = turns.next_of({*self._scheduler.held, *self._readings.clients})
        began = turns.clock()
        reader = self._readings.advance(turns.readers(turn), turns.lead, turn.piece)
        read = turns.clock()
        if reader is not None:
            turns.charge_reading(turn, reader, read - began)
        tokens = run_step(self._scheduler, self._runner, turn)
        turns.charge_step(tokens, turns.clock() - read)

    def _end(self) -> None:
        problem = self._admission.problem
        reason: FinishReason = "unavailable" if problem else "cancelled"
        self._admission.close()
        self._scheduler.end_all(reason, problem)
        self._prefixes.clear()
        self._runner.close()
        with self._admission.changed:
            for generation in tuple(self._queue):
                self._drop(generation, reason, problem)
            self._queue.clear()
        self._readings.end_all(EngineStopped(problem or "the engine stopped before it could answer"))


def _clients(waiting: Iterable[SlotGeneration | SlotSequence]) -> set[str]:
    return {each.request.client for each in waiting}
