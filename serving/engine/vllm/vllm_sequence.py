"""vLLM sequence: a sequence, and which of its tokens were moved by their own hidden states."""

from collections.abc import Mapping, Set
from dataclasses import replace

from serving.engine import sequence
from serving.engine.base import FinishReason, GenerationOutcome
from serving.steering.plan import phase_at


class VllmSequence(sequence.Sequence):
    """A sequence that vLLM runs."""

    moved: Mapping[int, set[int]] = {}
    """The positions that workers have moved, by vector, by its number in the plan."""

    @property
    def position(self) -> int:
        """Of the token that the next one is drawn from."""
        return len(self.prompt) + len(self.tokens) - 1

    def _outcome(self, reason: FinishReason, error: str) -> GenerationOutcome:
        plain, plan = super()._outcome(reason, error), self.request.plan
        # vLLM may have read the last token, for one that nobody wants.
        moved = {
            given.vector.reference: {position for position in self.moved.get(number, ()) if position < self.cached}
            for number, given in enumerate(plan.state_dependent)
        }
        anywhere = set().union(*moved.values())
        alone = self._split(
            {position for position in anywhere if not plan.steers(phase_at(position, len(self.prompt)))}
        )
        return replace(
            plain,
            steered_prompt=plain.steered_prompt + alone[0],
            steered_generation=plain.steered_generation + alone[1],
            moved={reference: self._split(positions) for reference, positions in moved.items()},
        )

    def _split(self, positions: Set[int]) -> tuple[int, int]:
        """How many lie in the prompt, and how many in the answer."""
        in_prompt = sum(position < len(self.prompt) for position in positions)
        return in_prompt, len(positions) - in_prompt
