"""One request while it has a slot: what is cached of it, what has been drawn, and what each token is steered by."""

import random
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import compress, repeat
from typing import Any

import torch
from torch import Tensor

from serving.engine.base import FinishReason, Generation, GenerationOutcome, TokenEvent, TokenLogprob
from serving.engine.detokenizer import IncrementalDetokenizer
from serving.engine.slots.kv_cache import Span
from serving.model.interventions import LayerIntervention, LayerVectors, TokenParameters, token_parameters
from serving.steering.plan import PHASES, Phase, SteeringPlan

Offsets = dict[tuple[int, Phase], Tensor]
"""What steers a token of a phase at a layer; nothing where there is no entry."""

Interventions = Mapping[tuple[int, Phase], tuple[LayerVectors, TokenParameters]]
"""What moves a token of a phase at a layer by its own hidden states; nothing where there is no entry."""


class Running:
    """A generation and its state. Every method belongs to the engine's thread."""

    def __init__(self, generation: Generation, offsets: Offsets, interventions: Interventions, tokenizer: Any) -> None:
        self.generation, self.offsets, self.interventions = generation, offsets, interventions
        self.request = generation.request
        self.sampling = self.request.sampling
        self.prompt = self.request.prompt_tokens
        self.cached = 0
        """Tokens whose keys and values are in the slot."""
        self.tokens: list[int] = []
        self.began = time.monotonic()
        plan = self.request.plan
        self._moved = {intervention.vector.reference: [0, 0] for intervention in plan.state_dependent}
        self._moved_alone = [0, 0]
        """Tokens of prompt and answer that only interventions on hidden states moved."""
        self._random = random.Random(self.sampling.seed)
        self._tokenizer = tokenizer
        self._text = IncrementalDetokenizer(tokenizer, self.prompt, self.sampling.stop)

    @property
    def prefilling(self) -> bool:
        return self.cached < len(self.prompt)

    def next_number(self) -> float:
        """The random number that the next token is drawn by."""
        return self._random.random()

    def span(self, slot: int, budget: int) -> Span:
        """The next tokens of the prompt, at most ``budget``."""
        return Span(slot, self.cached, min(budget, len(self.prompt) - self.cached))

    def phases(self, span: Span) -> Iterable[Phase]:
        """The phase of each token of a span of the prompt."""
        last = span.end == len(self.prompt)
        yield from repeat("prompt", span.count - last)
        if last:
            yield "last_prompt"

    def accept(
        self, token: int, logprobs: tuple[float, list[tuple[int, float]]] | None, ends: bool, full: bool
    ) -> FinishReason | None:
        """Take the token drawn, tell the reader, and say whether it was the last and why.

        ``ends`` says that it is the model's end of text, ``full`` that no further token has room.
        """
        self.tokens.append(token)
        text = self._text.flush() if ends else self._text.add(token)
        stopped = ends or self._text.stopped
        full = full or len(self.tokens) >= self.sampling.max_tokens
        if full and not stopped:
            text += self._text.flush()
        self.generation.add(self._event(token, text, logprobs))
        return "stop" if stopped else "length" if full else None

    def count(self, phase: Phase, references: Iterable[str]) -> None:
        """A token of this phase was moved along these vectors."""
        answer = phase == "generation"
        for reference in references:
            self._moved[reference][answer] += 1
        self._moved_alone[answer] += not self.request.plan.steers(phase)

    def finish(self, reason: FinishReason, error: str = "") -> None:
        plain = outcome_of(self.generation, reason, self.cached, len(self.tokens), error)
        prompt, answer = self._moved_alone
        self.generation.finish(
            replace(
                plain,
                steered_prompt=plain.steered_prompt + prompt,
                steered_generation=plain.steered_generation + answer,
                moved={reference: (prompt, answer) for reference, (prompt, answer) in self._moved.items()},
            )
        )

    def _event(self, token: int, text: str, logprobs: tuple[float, list[tuple[int, float]]] | None) -> TokenEvent:
        if logprobs is None:
            return TokenEvent(token, text)
        own, likeliest = logprobs
        top = tuple(TokenLogprob(other, self._tokenizer.decode([other]), value) for other, value in likeliest)
        return TokenEvent(token, text, own, top)


def outcome_of(
    generation: Generation, reason: FinishReason, cached: int = 0, generated: int = 0, error: str = ""
) -> GenerationOutcome:
    """How a generation ended, with ``cached`` tokens of prompt and answer run through the model."""
    prompt, plan = generation.request.prompt_tokens, generation.request.plan
    seen = min(cached, len(prompt))
    steered = plan.steers("prompt") * min(seen, len(prompt) - 1) + plan.steers("last_prompt") * (seen == len(prompt))
    return GenerationOutcome(reason, len(prompt), generated, steered, plan.steers("generation") * generated, error)


def offsets_of(plan: SteeringPlan, device: torch.device, dtype: torch.dtype) -> Offsets:
    """Coefficients times matrix, once a request: its strengths stay what they are while it runs."""
    found = {(layer, phase): plan.offset(layer, phase) for layer in plan.layers for phase in PHASES}
    return {key: torch.from_numpy(offset).to(device, dtype) for key, offset in found.items() if offset.any()}


def offsets_by_layer(tokens: Sequence[tuple[Offsets, Phase]], nothing: Tensor) -> dict[int, Tensor]:
    """For every layer that steers any of ``tokens``, one row a token: ``[tokens, d_model]``.

    ``nothing`` stands where a token is not steered; it is -0.0, which added to any number, 0.0 and -0.0 too, gives that
    very number.
    """
    layers = sorted({layer for offsets, phase in tokens for layer, found in offsets if found == phase})
    return {layer: torch.stack([offsets.get((layer, phase), nothing) for offsets, phase in tokens]) for layer in layers}


def interventions_of(plan: SteeringPlan, vectors: Mapping[int, LayerVectors]) -> Interventions:
    """By layer and phase; ``vectors`` has those of the plan's bank at every layer of its state-dependent ones."""
    parameters = {
        (layer, phase): (of_layer, token_parameters(plan, of_layer, phase))
        for layer, of_layer in vectors.items()
        for phase in PHASES
    }
    return {key: (of_layer, given) for key, (of_layer, given) in parameters.items() if given is not None}


def layer_interventions(tokens: Sequence[tuple[Running, Phase]]) -> list[LayerIntervention]:
    """The interventions of a step, those of one bank at one layer together."""
    by_layer: dict[int, tuple[LayerVectors, list[int], list[TokenParameters]]] = {}
    for position, (sequence, token_phase) in enumerate(tokens):
        for (_, phase), (vectors, parameters) in sequence.interventions.items():
            if phase == token_phase:
                _, positions, of_tokens = by_layer.setdefault(id(vectors), (vectors, [], []))
                positions.append(position)
                of_tokens.append(parameters)
    return [LayerIntervention(*arguments) for arguments in by_layer.values()]


def count_moved(tokens: Sequence[tuple[Running, Phase]], interventions: Sequence[LayerIntervention]) -> None:
    """Once the step has run: count for every request which of its tokens were moved."""
    references: dict[int, list[str]] = {}
    for intervention in interventions:
        for position, moved in zip(intervention.tokens, intervention.moved.tolist(), strict=True):
            if any(moved):
                references.setdefault(position, []).extend(compress(intervention.vectors.references, moved))
    for position, moved_by in references.items():
        sequence, phase = tokens[position]
        sequence.count(phase, moved_by)
