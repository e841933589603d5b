"""Verdict of text: whether a version improves what its model writes, as an evaluation measured it."""

import json
from dataclasses import asdict, dataclass

from registry.errors import CorruptFile


@dataclass(frozen=True)
class TextVerdict:
    """The share of untrustworthy answers to prompts that neither the vector nor its calibration had, by other means."""

    works: bool
    """Whether it falls beyond chance and beyond every random direction of equal cost, at little cost."""
    behaviour: str
    """Which answers those are, such as ``toxic continuations``."""
    strength: float
    unsteered: float
    steered: float
    change: float
    """From ``unsteered``; negative is what is wanted."""
    change_low: float
    change_high: float
    detectable: float
    """The smallest change that so many prompts would show in 80 % of such samples."""
    worse: float
    """The share of prompts whose answer turned untrustworthy."""
    n: int
    """Prompts."""
    p: float
    """Of the change, adjusted for the number of dimensions (Holm)."""
    random_directions: int
    """At equal perplexity cost."""
    best_random: float
    """Their lowest change."""
    random_p: float
    """Exact, were the vector one of them."""
    perplexity_ratio: float
    random_perplexity_low: float
    random_perplexity_high: float
    """Between which the random directions' perplexity lay, over that of the unsteered model."""
    run_id: str

    def describe(self) -> str:
        """One sentence in Markdown."""
        says = "**Works**" if self.works else "**Does not work**"
        return (
            f"{says} on what is written, at strength {self.strength:g}: {self.behaviour} {self.unsteered:.1%} "
            f"unsteered, {self.steered:.1%} steered (change {100 * self.change:.1f} [{100 * self.change_low:.1f}, "
            f"{100 * self.change_high:.1f}] points, n = {self.n}, p = {self.p:.4f}; "
            f"best of {self.random_directions} random directions of equal cost {100 * self.best_random:.1f}; "
            f"{self.worse:.1%} of prompts turn worse; perplexity {self.perplexity_ratio:.3f}x)"
        )

    def to_json(self) -> str:
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> "TextVerdict":
        """The inverse of ``to_json``. Raises ``CorruptFile`` for anything else."""
        try:
            return cls(**json.loads(text))
        except (ValueError, TypeError) as error:
            raise CorruptFile(f"the verdict cannot be read ({error}); evaluate the vector again") from error
