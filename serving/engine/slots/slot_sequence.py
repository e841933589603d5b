"""Slot sequence: a sequence with its slot, and the steering of each of its tokens."""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import compress, repeat

import torch
from torch import Tensor

from serving.engine import sequence
from serving.engine.base import FinishReason, Generation, GenerationOutcome
from serving.engine.grammar import Grammar
from serving.engine.slots.kv_pool import Slot
from serving.engine.slots.prefix_cache import BLOCK, BlockKeys, steering_keys
from serving.engine.slots.token_batch import Span
from serving.model.interventions import (
    LayerIntervention,
    LayerVectors,
    LogitsBefore,
    TokenParameters,
    token_parameters,
)
from serving.model.language_model import LanguageModel
from serving.model.monitoring import MonitorProbes, ProbeReading
from serving.model.token_bytes import TokenBytes
from serving.steering.plan import PHASES, Phase, SteeringPlan

Offsets = dict[tuple[int, Phase], Tensor]
"""The offset of a token of a phase at a layer; nothing where there is no entry."""

Interventions = Mapping[tuple[int, Phase], tuple[LayerVectors, TokenParameters]]
"""What moves a token of a phase at a layer by its own hidden states; nothing where there is no entry."""


class SlotSequence(sequence.Sequence):
    """A sequence in a slot. Every method belongs to the engine's thread."""

    def __init__(
        self,
        generation: Generation,
        vocabulary: TokenBytes,
        slot: Slot,
        offsets: Offsets,
        interventions: Interventions,
        grammar: Grammar | None = None,
        probes: MonitorProbes | None = None,
    ) -> None:
        super().__init__(generation, vocabulary, grammar)
        self.probes = probes
        self.slot, self.offsets, self.interventions = slot, offsets, interventions
        self.reused = 0
        """Tokens of the prompt whose keys and values were copied from the prefix cache."""
        self.aside: Tensor | None = None
        """Keys and values of a sequence that has given its slot away."""
        self._logits = {
            given.vector.reference: deque[float](maxlen=given.vector.require_probe().window - 1)
            for given in self.request.plan.state_dependent
            if given.condition is not None
        }
        """By vector that steers on a condition: what its probe said of the latest tokens, as far as it needs them."""
        self._moved = {given.vector.reference: [0, 0] for given in self.request.plan.state_dependent}
        self._moved_alone = [0, 0]
        """Tokens of prompt and answer that only interventions on hidden states moved."""

    @cached_property
    def _blocks(self) -> BlockKeys:
        """Made when the prefix cache first asks: never where it is off."""
        return BlockKeys(steering_keys(self.request.plan), len(self.prompt), self.request.client)

    def give_slot(self) -> Slot:
        """The slot, which somebody else may have; what it holds of this sequence is kept."""
        self.aside = self.slot.pool.read(self.slot, 0, self.cached)
        return self.slot

    def take_slot(self, slot: Slot) -> None:
        """Go on in a slot that holds nothing."""
        if self.aside is not None and self.cached:
            slot.pool.write(slot, 0, [self.aside])
        self.slot, self.aside = slot, None

    @property
    def prefilling(self) -> bool:
        return self.cached < len(self.prompt)

    @property
    def unread(self) -> int:
        """Tokens of the prompt that the model has yet to read."""
        return max(0, len(self.prompt) - self.cached)

    @property
    def reusable(self) -> Sequence[bytes]:
        """The keys of the prompt's blocks that need not be read: none of the last token, after which one is drawn, and
        none at all where the prompt's own log-probabilities were asked for.
        """
        return () if self.sampling.prompt_logprobs else self._blocks.of(self.prompt[:-1])

    @property
    def coming(self) -> Sequence[bytes]:
        """The keys of the prompt's blocks that are yet to be read."""
        return self._blocks.of(self.prompt)[self.cached // BLOCK :]

    @property
    def completed(self) -> Sequence[bytes]:
        """The keys of all blocks that the slot holds."""
        return self._blocks.of([*self.prompt, *self.tokens][: self.cached])

    def span(self, budget: int) -> Span:
        """The next tokens of the prompt, at most ``budget``; of an answer, the last one drawn."""
        return Span(self.slot, self.cached, min(budget, self.unread) if self.prefilling else 1)

    def tokens_of(self, span: Span) -> Sequence[int]:
        return self.prompt[span.start : span.end] if self.prefilling else self.tokens[-1:]

    def followers(self, span: Span) -> Sequence[int]:
        """The tokens of the prompt that follow those of a span, where their log-probabilities were asked for."""
        scored = self.prefilling and self.sampling.prompt_logprobs
        return self.prompt[span.start + 1 : span.end + 1] if scored else ()

    def phases(self, span: Span) -> Iterable[Phase]:
        """The phase of each token of a span."""
        if not self.prefilling:
            return repeat("generation", span.count)
        last = span.end == len(self.prompt)
        before: list[Phase] = ["prompt"] * (span.count - last)
        return [*before, "last_prompt"] if last else before

    def keep_logit(self, reference: str, logit: float) -> None:
        """A token that was read is in the window of the next one."""
        if reference in self._logits:
            self._logits[reference].append(logit)

    def logits_before(self, vectors: LayerVectors) -> LogitsBefore:
        """What the windows of these vectors' probes hold before the next token."""
        held = [self._logits.get(reference, ()) for reference in vectors.references]
        return torch.tensor([[sum(logits) for logits in held], [len(logits) for logits in held]]).float()

    def count(self, phase: Phase, references: Iterable[str]) -> None:
        """A token of this phase was moved along these vectors."""
        answer = phase == "generation"
        for reference in references:
            self._moved[reference][answer] += 1
        self._moved_alone[answer] += not self.request.plan.steers(phase)

    def _outcome(self, reason: FinishReason, error: str) -> GenerationOutcome:
        plain = super()._outcome(reason, error)
        prompt, answer = self._moved_alone
        return replace(
            plain,
            steered_prompt=plain.steered_prompt + prompt,
            steered_generation=plain.steered_generation + answer,
            cached_prompt=self.reused,
            moved={reference: (prompt, answer) for reference, (prompt, answer) in self._moved.items()},
        )


def offsets_of(plan: SteeringPlan, device: torch.device, dtype: torch.dtype) -> Offsets:
    """Coefficients times matrix, once a request: its strengths stay as they are while it runs."""
    offsets = {(layer, phase): plan.offset(layer, phase) for layer in plan.layers for phase in PHASES}
    return {key: torch.from_numpy(offset).to(device, dtype) for key, offset in offsets.items() if offset.any()}


def no_offset(model: LanguageModel) -> Tensor:
    """The offset of a token that is not steered, ``[d_model]``.

    It is -0.0, which added to any number, 0.0 and -0.0 too, gives that very number.
    """
    return torch.full((model.d_model,), -0.0, dtype=model.dtype, device=model.device)


def offsets_by_layer(tokens: Sequence[tuple[Offsets, Phase]], nothing: Tensor) -> dict[int, Tensor]:
    """For every layer that steers any of ``tokens``, one row per token: ``[tokens, d_model]``.

    ``nothing`` stands where a token is not steered.
    """
    layers = sorted({layer for offsets, phase in tokens for layer, steered in offsets if steered == phase})
    return {layer: torch.stack([offsets.get((layer, phase), nothing) for offsets, phase in tokens]) for layer in layers}


def interventions_of(plan: SteeringPlan, vectors: Mapping[int, LayerVectors]) -> Interventions:
    """By layer and phase; ``vectors`` has those of the plan's bank at every layer of its state-dependent ones."""
    parameters = {
        (layer, phase): (of_layer, token_parameters(plan, of_layer, phase))
        for layer, of_layer in vectors.items()
        for phase in PHASES
    }
    return {key: (of_layer, given) for key, (of_layer, given) in parameters.items() if given is not None}


def layer_interventions(tokens: Sequence[tuple[SlotSequence, Phase]]) -> list[LayerIntervention]:
    """The interventions of a step, those of one bank at one layer together."""
    by_layer: dict[int, tuple[LayerVectors, list[int], list[TokenParameters], list[LogitsBefore]]] = {}
    for position, (running, token_phase) in enumerate(tokens):
        for (_, phase), (vectors, parameters) in running.interventions.items():
            if phase == token_phase:
                _, positions, of_tokens, before = by_layer.setdefault(id(vectors), (vectors, [], [], []))
                positions.append(position)
                of_tokens.append(parameters)
                if vectors.windows:
                    before.append(running.logits_before(vectors).to(parameters.device))
    return [LayerIntervention(*arguments) for arguments in by_layer.values()]


def probe_readings(drawing: Sequence[SlotSequence], tokens: Sequence[int]) -> list[ProbeReading]:
    """The readings of a step: at the tokens that monitored sequences draw after, those of equal monitors together."""
    monitored: dict[int, tuple[MonitorProbes, list[int]]] = {}
    for row, running in enumerate(drawing):
        if running.probes is not None:
            monitored.setdefault(id(running.probes), (running.probes, []))[1].append(row)
    return [ProbeReading(probes, [tokens[row] for row in rows], rows) for probes, rows in monitored.values()]


def keep_logits(tokens: Sequence[tuple[SlotSequence, Phase]], interventions: Sequence[LayerIntervention]) -> None:
    """Once the step has run: let conditions that read several tokens at once remember these."""
    for intervention in interventions:
        vectors = intervention.vectors
        rows = vectors.remembered
        if not rows:
            continue
        for position, of_token in zip(intervention.tokens, intervention.logits.tolist(), strict=True):
            running, phase = tokens[position]
            if phase == "generation":
                for row in rows:
                    running.keep_logit(vectors.references[row], of_token[row])


def count_moved(tokens: Sequence[tuple[SlotSequence, Phase]], interventions: Sequence[LayerIntervention]) -> None:
    """Once the step has run: count for every request which of its tokens were moved."""
    references: dict[int, set[str]] = {}  # a vector of several layers moves a token once, at however many of them
    for intervention in interventions:
        for position, moved in zip(intervention.tokens, intervention.moved.tolist(), strict=True):
            if any(moved):
                references.setdefault(position, set()).update(compress(intervention.vectors.references, moved))
    for position, moved_by in references.items():
        running, phase = tokens[position]
        running.count(phase, moved_by)
