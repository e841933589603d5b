"""Scheduler: which requests have a slot, and what each step runs of them: ``schedule``, then ``postprocess``."""

import logging
from collections import Counter
from collections.abc import Callable, Sequence

from torch import Tensor

from serving.engine.base import FinishReason, Generation
from serving.engine.grammar import Grammar
from serving.engine.sequence import Logprobs, ending_of
from serving.engine.slots.batch import Batch
from serving.engine.slots.drawing import draw_with_logprobs
from serving.engine.slots.kv_cache import SlotCache
from serving.engine.slots.prefix_cache import PrefixCache
from serving.engine.slots.prefix_reuse import PrefixReuse
from serving.engine.slots.prompt_shares import next_pieces, unread_by_client
from serving.engine.slots.sampling import block_maxima, log_probabilities_of_rows
from serving.engine.slots.slot_sequence import (
    SlotSequence,
    count_moved,
    interventions_of,
    keep_logits,
    layer_interventions,
    no_offset,
    offsets_by_layer,
    offsets_of,
    probe_readings,
)
from serving.engine.slots.token_batch import Span, TokenBatch
from serving.engine.slots.turns import Turn
from serving.engine.window import end_tokens
from serving.model.interventions import LayerVectors
from serving.model.language_model import LanguageModel
from serving.model.monitoring import MonitorProbes
from serving.steering.monitor import Monitor
from serving.steering.plan import Phase, SteeringPlan

logger = logging.getLogger(__name__)

Parts = Sequence[tuple[SlotSequence, Span]]


class Scheduler:
    """Runs requests step by step, on one thread. Whatever one request raises ends that request alone."""

    def __init__(
        self,
        model: LanguageModel,
        cache: SlotCache,
        *,
        slots: int,
        window: int,
        prefill_chunk: int,
        prefixes: PrefixCache,
        ended: Callable[[SlotSequence], None] = lambda _: None,
    ) -> None:
        """``ended`` is called with each sequence once its generation has finished."""
        self.prompt_tokens = self.generated_tokens = self.steps = 0
        self._model, self._cache, self._prefixes = model, cache, PrefixReuse(prefixes)
        self._slots, self._window, self._prefill_chunk = slots, window, prefill_chunk
        self._ended = ended
        self._ends = end_tokens(model)
        self._nothing = no_offset(model)
        self._running: list[SlotSequence] = []
        self._aside: list[SlotSequence] = []
        self._steered: list[tuple[SlotSequence, Phase]] = []
        self._offsets: dict[int, Tensor] = {}
        self._vectors: dict[tuple[str, int], LayerVectors] = {}
        """Of the banks that state-dependent interventions need, by identity and layer."""

    @property
    def active(self) -> int:
        return len(self._running)

    @property
    def aside(self) -> tuple[SlotSequence, ...]:
        """Sequences that have given their slots to clients that had none, and wait for one again."""
        return tuple(self._aside)

    @property
    def most_aside(self) -> int:
        """How many may be set aside at once, which bounds their memory."""
        return self._slots // 2

    @property
    def held(self) -> Counter[str]:
        """Slots by client."""
        return Counter(running.request.client for running in tuple(self._running))

    def has_room(self, client: str) -> bool:
        """Whether the next step can begin on one more prompt, and a slot is free or is given up for this client."""
        if unread_by_client(self._running)[client] >= self._prefill_chunk:
            return False
        return self.active < self._slots or self._giving_way(client) is not None

    def resume(self, sequence: SlotSequence) -> None:
        """Go on with a sequence that was set aside; without memory it ends."""
        self._make_room(sequence.request.client)
        self._aside.remove(sequence)
        try:
            sequence.take_slot(self._cache.reserve(min(max(len(sequence.prompt), sequence.cached) + 1, self._window)))
        except Exception as error:
            logger.error("a request could not be resumed", exc_info=error)
            self._end(sequence, "error", f"the request could not go on ({type(error).__name__}); try again")
        else:
            self._running.append(sequence)

    def admit(self, generation: Generation, grammar: Grammar | None = None) -> None:
        self._make_room(generation.request.client)
        plan = generation.request.plan
        offsets = offsets_of(plan, self._model.device, self._model.dtype)
        interventions = interventions_of(plan, self._layer_vectors(plan)) if plan.state_dependent else {}
        monitor = generation.request.monitor
        probes = None if monitor is None else self._monitor_probes(monitor)
        slot = self._cache.reserve(min(len(generation.request.prompt_tokens) + 1, self._window))
        try:
            running = SlotSequence(generation, self._model.token_bytes, slot, offsets, interventions, grammar, probes)
        except BaseException:
            self._cache.release(slot)
            raise
        self._running.append(running)
        self._prefixes.load(running)

    def schedule(self, turn: Turn) -> Batch | None:
        """The next step: one token for every answer that has its turn, and pieces of the prompts."""
        for running in [running for running in self._running if running.generation.cancelled]:
            self._retire(running, "cancelled")
        for sequence in [sequence for sequence in self._aside if sequence.generation.cancelled]:
            self._aside.remove(sequence)
            self._end(sequence, "cancelled")
        self._prefixes.begin_step()
        chosen = [running for running in self._running if running.request.client in turn.clients]
        prompts = [running for running in chosen if running.prefilling and not self._prefixes.waits(running)]
        first, beside = turn.split(prompts)
        reading = next_pieces(first, turn.piece) + next_pieces(beside, turn.piece_beside)
        answers = turn.answering(running for running in chosen if not running.prefilling)
        answering = [(running, running.span(1)) for running in answers if self._has_place(running)]
        answering.sort(key=lambda part: (part[1].slot.pool.capacity, part[1].slot.row))
        return self._batch(answering, reading) if answering or reading else None

    def alone(self, batch: Batch) -> list[Batch]:
        """The same step, one sequence at a time: to find the one that makes it fail."""
        return [self._batch([], [part]) for part in batch.parts]

    def postprocess(self, batch: Batch, logits: Tensor) -> None:
        """Take the step's results: what has been read, and one token for each row of the logits."""
        count_moved(batch.phases, batch.interventions)
        keep_logits(batch.phases, batch.interventions)
        failed = self._score_prompts(batch, logits)
        for running, span in batch.parts:
            if running.prefilling:
                self.prompt_tokens += span.count
            running.cached += span.count
            if running not in failed:
                self._prefixes.store(running, span.count)
        if not batch.drawing:
            return
        tokens, logprobs = draw_with_logprobs(logits[: len(batch.drawing)], batch.drawing)
        self.steps += 1
        probed = {row: logits for reading in batch.readings for row, logits in reading.logits()}
        for row, (running, token) in enumerate(zip(batch.drawing, tokens, strict=True)):
            if running in failed:
                continue
            if isinstance(token, Exception):
                self.fail(running, token)
            elif token is None:
                running.slot.pool.clear(running.slot)
                self._retire(running, "error", "the model yields NaN or infinity; lower the strengths")
            elif not running.sampling.max_tokens:
                self._retire(running, "length")
            else:
                self.generated_tokens += 1
                self._accept(running, token, logprobs.get(row), probed.get(row, ()))

    def _score_prompts(self, batch: Batch, logits: Tensor) -> list[SlotSequence]:
        """Give prompts the log-probabilities of their tokens; the sequences that this failed."""
        failed, row = [], len(batch.drawing)
        for running, followers in batch.scoring:
            rows, row = logits[row : row + len(followers)], row + len(followers)
            try:
                top = running.sampling.top_logprobs or 0
                running.score_prompt(log_probabilities_of_rows(rows, block_maxima(rows), followers, top))
            except Exception as error:
                self.fail(running, error)
                failed.append(running)
        return failed

    def fail(self, running: SlotSequence, error: Exception) -> None:
        """End one request by what it raised."""
        running.slot.pool.clear(running.slot)
        self._retire(running, *ending_of(error))

    def end_all(self, reason: FinishReason, error: str = "") -> None:
        for running in tuple(self._running):
            self._retire(running, reason, error)
        for sequence in self._aside:
            self._end(sequence, reason, error)
        self._aside.clear()

    def _giving_way(self, client: str) -> SlotSequence | None:
        """Whose slot ``client`` may have: the last begun of the client with most, where that has more even then.

        Half of the room beside the slots is for clients that have none.
        """
        held = self.held
        if len(self._aside) >= (self.most_aside // 2 if held[client] else self.most_aside):
            return None
        ((other, most),) = held.most_common(1)
        if most <= held[client] + 1:
            return None
        return next(running for running in reversed(self._running) if running.request.client == other)

    def _make_room(self, client: str) -> None:
        giving_way = self._giving_way(client) if self.active >= self._slots else None
        if giving_way is not None:
            self._running.remove(giving_way)
            self._cache.release(giving_way.give_slot())
            self._aside.append(giving_way)

    def _batch(self, answering: Parts, reading: Parts) -> Batch:
        parts = [*answering, *reading]
        tokens: list[int] = []
        phases: list[tuple[SlotSequence, Phase]] = []
        logits_rows, drawing, scoring = [], [], []
        scored_rows: list[int] = []
        for running, span in parts:
            tokens += running.tokens_of(span)
            phases += ((running, phase) for phase in running.phases(span))
            followers = running.followers(span)
            if running.prefilling and running.sampling.prompt_logprobs:
                first = len(tokens) - span.count
                scored_rows += range(first, first + len(followers))
                scoring.append((running, followers))
            if span.end >= len(running.prompt):
                logits_rows.append(len(tokens) - 1)
                drawing.append(running)
        decoding = [(span.slot, span.start) for _, span in answering]
        places = TokenBatch.of(decoding, [span for _, span in reading], self._model.device)
        interventions = layer_interventions(phases) if any(running.interventions for running, _ in parts) else []
        rows, readings = [*logits_rows, *scored_rows], probe_readings(drawing, logits_rows)
        offsets = self._offsets_of(phases)
        return Batch(parts, tokens, places, phases, rows, drawing, scoring, offsets, interventions, readings)

    def _has_place(self, running: SlotSequence) -> bool:
        """Whether the next token has a position in the slot, which is grown for it; without memory the request ends."""
        try:
            running.slot = self._cache.grow(running.slot, running.cached, running.cached + 1)
        except Exception as error:
            self.fail(running, error)
            return False
        return True

    def _offsets_of(self, phases: list[tuple[SlotSequence, Phase]]) -> dict[int, Tensor]:
        """Those of the step before, as long as its tokens were steered alike."""
        if phases != self._steered:
            self._steered = phases
            self._offsets = offsets_by_layer([(running.offsets, phase) for running, phase in phases], self._nothing)
        return self._offsets

    def _layer_vectors(self, plan: SteeringPlan) -> dict[int, LayerVectors]:
        """By layer with a state-dependent intervention; kept while a request with any on the same bank runs."""
        bank = plan.bank
        used = [running.request.plan.bank for running in self._running if running.interventions]
        needed = {bank.identity, *(other.identity for other in used)}
        self._vectors = {key: vectors for key, vectors in self._vectors.items() if key[0] in needed}
        layers = {layer for intervention in plan.state_dependent for layer in intervention.vector.layers}
        for key in ((bank.identity, layer) for layer in layers):
            if key not in self._vectors:
                self._vectors[key] = LayerVectors.from_bank(bank, key[1], self._model.device)
        return {layer: self._vectors[bank.identity, layer] for layer in layers}

    def _monitor_probes(self, monitor: Monitor) -> MonitorProbes:
        """Those of an equal monitor that runs, so that one product reads for both."""
        running = (running.probes for running in self._running if running.probes is not None)
        alike = (probes for probes in running if probes.references == monitor.references)
        return next(alike, None) or MonitorProbes.from_monitor(monitor, self._model.device)

    def _accept(
        self, running: SlotSequence, token: int, logprobs: Logprobs | Exception | None, probed: tuple[float, ...]
    ) -> None:
        try:
            if isinstance(logprobs, Exception):
                raise logprobs
            ends = token in self._ends and not running.sampling.ignore_eos
            reason = running.accept(token, logprobs, ends, running.cached + 1 >= self._window, probed)
        except Exception as error:
            self.fail(running, error)
        else:
            if reason is not None:
                self._retire(running, reason)

    def _retire(self, running: SlotSequence, reason: FinishReason, error: str = "") -> None:
        self._running.remove(running)
        self._cache.release(running.slot)
        self._end(running, reason, error)

    def _end(self, sequence: SlotSequence, reason: FinishReason, error: str = "") -> None:
        sequence.finish(reason, error)
        self._ended(sequence)
