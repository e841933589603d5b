"""Training axis: where checkpoints stand on the x axis, in tokens seen where all tell them, else in steps."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from registry.checkpoints import MAIN, Checkpoint

STEPS, TOKENS = "pre-training step", "tokens seen in pre-training"
_UNITS = ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "k"))


@dataclass(frozen=True)
class TrainingAxis:
    """The places of some checkpoints, in the order of training."""

    name: str
    places: tuple[int, ...]
    """Tokens or steps."""
    labels: tuple[str, ...]

    @classmethod
    def of_steps(cls, steps: Sequence[int], tokens: Sequence[int | None]) -> "TrainingAxis":
        """In ``tokens`` where all are known, and told exactly enough to rise."""
        known = tuple(count for count in tokens if count is not None)
        in_tokens = cls(TOKENS, known, tuple(map(token_label, known)))
        if known and len(known) == len(steps) and in_tokens.is_ordered:
            return in_tokens
        return cls(STEPS, tuple(steps), tuple(f"{step:,}" for step in steps))

    @classmethod
    def of(cls, checkpoints: Sequence[Checkpoint]) -> "TrainingAxis":
        """Stages count steps anew: checkpoints of several are evenly spaced and called by their captions.

        So are those before a model that a trainer left without a step at the end of them.
        """
        axis = cls.of_steps(
            [checkpoint.step for checkpoint in checkpoints], [checkpoint.tokens for checkpoint in checkpoints]
        )
        if axis.is_ordered:
            return axis
        labels = tuple(checkpoint.caption for checkpoint in checkpoints)
        stages = {checkpoint.line for checkpoint in checkpoints} - {MAIN}
        name = f"{axis.name}, counted anew in each stage" if len(stages) > 1 else axis.name
        return cls(name, axis.places, labels)

    @property
    def is_ordered(self) -> bool:
        """Whether places rise with training, so that an axis can be drawn to scale."""
        return all(earlier < later for earlier, later in pairwise(self.places))


def token_label(tokens: int) -> str:
    """``4_000_000_000`` → ``4B``, to three digits."""
    for size, unit in _UNITS:
        if tokens >= size:
            return f"{float(f'{tokens / size:.3g}'):g}{unit}"
    return str(tokens)
