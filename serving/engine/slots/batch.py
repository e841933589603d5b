"""Batch: everything that one forward pass runs, and which sequences its logits belong to."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from serving.engine.slots.slot_sequence import SlotSequence
from serving.engine.slots.token_batch import Span, TokenBatch
from serving.model.interventions import LayerIntervention
from serving.model.monitoring import ProbeReading
from serving.steering.plan import Phase


@dataclass(frozen=True, eq=False)
class Batch:
    """One token for each answer, and pieces of prompts."""

    parts: Sequence[tuple[SlotSequence, Span]]
    """Answers first; of each its last token, of a prompt its next piece."""
    tokens: Sequence[int]
    places: TokenBatch
    phases: Sequence[tuple[SlotSequence, Phase]]
    """The sequence and phase of every token."""
    logits_rows: Sequence[int]
    """The tokens after which a token is drawn, then those of prompts whose next token is scored."""
    drawing: Sequence[SlotSequence]
    """The sequences that draw."""
    scoring: Sequence[tuple[SlotSequence, Sequence[int]]]
    """The sequences whose prompts are scored, with the tokens that follow those read."""
    offsets: Mapping[int, Tensor]
    interventions: Sequence[LayerIntervention]
    readings: Sequence[ProbeReading]
    """Of sequences that draw and are monitored, by their place among those that draw."""

    @property
    def tokens_by_client(self) -> Counter[str]:
        counts: Counter[str] = Counter()
        for running, span in self.parts:
            counts[running.request.client] += span.count
        return counts
