"""Which requests have a slot, and what each step runs of them."""

import time
from collections.abc import Sequence
from itertools import repeat

import torch
from torch import Tensor

from serving.engine.base import FinishReason, Generation
from serving.engine.sequence import (
    Running,
    count_moved,
    interventions_of,
    layer_interventions,
    offsets_by_layer,
    offsets_of,
)
from serving.engine.slots.kv_cache import Span, TokenBatch
from serving.engine.slots.model_runner import ModelRunner
from serving.engine.slots.sampling import draw, likeliest, log_probabilities
from serving.model.interventions import LayerVectors
from serving.model.language_model import LanguageModel
from serving.steering.plan import Phase, SteeringPlan


class SlotScheduler:
    """Runs requests step by step, on one thread.

    Slots stay without holes, so that attention reads one block: answers first, then at most one prompt that is not yet
    read to its end.
    """

    def __init__(self, decoder: ModelRunner, window: int, prefill_chunk: int) -> None:
        model = decoder.model
        self.prompt_tokens = self.generated_tokens = self.steps = 0
        self.typical_seconds = 1.0
        """How long a request has its slot; later ones count more."""
        self.vocabulary = int(model.network.get_input_embeddings().num_embeddings)
        self._decoder, self._model = decoder, model
        self._window, self._prefill_chunk = window, prefill_chunk
        self._ends = end_tokens(model)
        self._nothing = torch.full((model.d_model,), -0.0, dtype=model.dtype, device=model.device)
        self._running: list[Running] = []
        self._steered: list[tuple[Running, Phase]] = []
        self._offsets: dict[int, Tensor] = {}
        self._vectors: dict[tuple[str, int], LayerVectors] = {}
        """Of the banks that state-dependent interventions need, by identity and layer."""

    @property
    def active(self) -> int:
        return len(self._running)

    def has_room(self) -> bool:
        """Whether a slot is free, and the next step can begin on one more prompt."""
        unread = sum(len(one.prompt) - one.cached for one in self._running if one.prefilling)
        return self.active < self._decoder.slots and unread < self._prefill_chunk

    def admit(self, generation: Generation) -> None:
        plan = generation.request.plan
        offsets = offsets_of(plan, self._model.device, self._model.dtype)
        interventions = interventions_of(plan, self._layer_vectors(plan)) if plan.state_dependent else {}
        self._running.append(Running(generation, offsets, interventions, self._model.tokenizer))

    def step(self) -> None:
        """One token for every answer, and a piece of the prompts."""
        for slot in reversed(range(self.active)):
            if self._running[slot].generation.cancelled:
                self._retire(slot, "cancelled")
        if not self._running:
            return
        answering = [one for one in self._running if not one.prefilling]
        spans = self._prompt_spans(len(answering))
        batch = TokenBatch([one.cached for one in answering], spans, self._model.device)
        tokens = [one.tokens[-1] for one in answering]
        steered: list[tuple[Running, Phase]] = [(one, "generation") for one in answering]
        rows = list(range(len(answering)))
        for span in spans:
            one = self._running[span.slot]
            tokens += one.prompt[span.start : span.end]
            steered += zip(repeat(one), one.phases(span), strict=False)
            if span.end == len(one.prompt):
                rows.append(len(tokens) - 1)
        offsets = self._offsets_of(steered)
        interventions = layer_interventions(steered) if any(one.interventions for one in self._running) else []
        logits = self._decoder.forward(tokens, batch, rows, offsets, interventions)
        count_moved(steered, interventions)
        for one in answering:
            one.cached += 1
        for span in spans:
            self._running[span.slot].cached += span.count
            self.prompt_tokens += span.count
        self._accept(logits)

    def end_all(self, reason: FinishReason, error: str = "") -> None:
        for one in self._running:
            one.finish(reason, error)
        self._running.clear()

    def _offsets_of(self, steered: list[tuple[Running, Phase]]) -> dict[int, Tensor]:
        """Those of the step before, as long as its tokens were steered alike."""
        if steered != self._steered:
            self._steered = steered
            self._offsets = offsets_by_layer([(one.offsets, phase) for one, phase in steered], self._nothing)
        return self._offsets

    def _layer_vectors(self, plan: SteeringPlan) -> dict[int, LayerVectors]:
        """By layer with a state-dependent intervention; kept while a request with any on the same bank runs."""
        bank = plan.bank
        needed = {bank.identity, *(one.request.plan.bank.identity for one in self._running if one.interventions)}
        self._vectors = {key: one for key, one in self._vectors.items() if key[0] in needed}
        layers = {intervention.vector.layer for intervention in plan.state_dependent}
        for key in ((bank.identity, layer) for layer in layers):
            if key not in self._vectors:
                self._vectors[key] = LayerVectors.from_bank(bank, key[1], self._model.device)
        return {layer: self._vectors[bank.identity, layer] for layer in layers}

    def _prompt_spans(self, first: int) -> list[Span]:
        """Pieces of the prompts in slots from ``first``, in their order, up to the size of a chunk."""
        spans, budget = [], self._prefill_chunk
        for slot in range(first, self.active):
            if budget:
                spans.append(self._running[slot].span(slot, budget))
                budget -= spans[-1].count
        return spans

    def _accept(self, logits: Tensor) -> None:
        """One token for each of the first slots, as many as there are rows of logits."""
        if not len(logits):
            return
        answering = self._running[: len(logits)]
        tokens, sound = self._drawn(logits, answering)
        self.steps += 1
        self.generated_tokens += len(tokens)
        for slot in reversed(range(len(tokens))):
            one, token, logprobs = answering[slot], tokens[slot], None
            if not sound[slot]:
                self._decoder.cache.clear(slot)
                self._retire(slot, "error", "the model yields NaN or infinity; lower the strengths")
                continue
            if one.sampling.top_logprobs is not None:
                logprobs = log_probabilities(logits[slot], token, one.sampling.top_logprobs)
            ends = token in self._ends and not one.sampling.ignore_eos
            reason = one.accept(token, logprobs, ends, one.cached + 1 >= self._window)
            if reason is not None:
                self._retire(slot, reason)

    def _drawn(self, logits: Tensor, answering: Sequence[Running]) -> tuple[list[int], list[bool]]:
        tokens, sound = likeliest(logits)
        random = [slot for slot, one in enumerate(answering) if one.sampling.temperature > 0 and sound[slot]]
        if random:
            chosen = [answering[slot] for slot in random]
            drawn = draw(
                logits if len(random) == len(logits) else logits[random],
                [one.sampling.temperature for one in chosen],
                [one.sampling.top_p for one in chosen],
                [one.next_number() for one in chosen],
            )
            for slot, token in zip(random, drawn, strict=True):
                tokens[slot] = token
        return tokens, sound

    def _retire(self, slot: int, reason: FinishReason, error: str = "") -> None:
        """End a request; the last answer takes its slot, and a prompt half read the slot of that."""
        gone = self._running[slot]
        gone.finish(reason, error)
        seconds = time.monotonic() - gone.began
        self.typical_seconds += 0.1 * (seconds - self.typical_seconds)
        hole = slot
        for last in (sum(not one.prefilling for one in self._running) - 1, self.active - 1):
            if hole < last:
                self._decoder.cache.move(last, hole, self._running[last].cached)
                self._running[hole] = self._running[last]
                hole = last
        self._running.pop()


def end_tokens(model: LanguageModel) -> frozenset[int]:
    """The tokens that end a text: the model's own, or the tokenizer's where it declares none."""
    declared = getattr(getattr(model.network, "generation_config", None), "eos_token_id", None)
    if declared is None:
        declared = getattr(model.tokenizer, "eos_token_id", None)
    if declared is None:
        return frozenset()
    return frozenset([declared] if isinstance(declared, int) else declared)
