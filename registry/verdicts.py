"""Verdict of text: whether a version improves what its model writes, as an evaluation measured it."""

from dataclasses import dataclass
from typing import ClassVar

from registry.counts import counted
from registry.json_record import JsonRecord


@dataclass(frozen=True)
class TextVerdict(JsonRecord):
    """The share of untrustworthy answers to prompts that neither the vector nor its calibration had, by other means."""

    KIND: ClassVar[str] = "verdict"
    REMEDY: ClassVar[str] = "evaluate the vector again"

    works: bool
    """Whether it falls beyond chance and every random direction of equal cost, at little cost, in the same form."""
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
    role: str = ""
    """Of the direction: ``reads only``, ``sufficient``, ``necessary`` or ``sufficient and necessary``.

    Empty where it was not silenced, as in older verdicts. All that follows is of answers without the direction."""
    silenced: float | None = None
    """The share of untrustworthy answers."""
    silenced_change: float | None = None
    """From ``unsteered``; positive where the trustworthy answers needed the direction."""
    silenced_low: float | None = None
    silenced_high: float | None = None
    silenced_detectable: float | None = None
    silenced_p: float | None = None
    silenced_random_directions: int | None = None
    """Silenced alike; none where the change may be chance."""
    silenced_random_p: float | None = None
    repetition_change: float | None = None
    """Of the mean share of runs of four tokens that came before in an answer; in older verdicts of repeated word pairs.

    ``None`` in verdicts of before it was measured.
    """
    repetition_low: float | None = None
    repetition_high: float | None = None
    length_ratio: float | None = None
    """Mean tokens of the steered answers over those of the unsteered ones; words in verdicts of before."""
    length_low: float | None = None
    length_high: float | None = None

    def describe(self) -> str:
        """One sentence in Markdown."""
        says = "**Works**" if self.works else "**Does not work**"
        return (
            f"{says} on what is written, at strength {self.strength:g}: {self.behaviour} {self.unsteered:.1%} "
            f"unsteered, {self.steered:.1%} steered (change {100 * self.change:z.1f} [{100 * self.change_low:z.1f}, "
            f"{100 * self.change_high:z.1f}] points, n = {self.n}, p = {self.p:.4f}; "
            f"best of {counted(self.random_directions, 'random direction')} of equal cost "
            f"{100 * self.best_random:z.1f}; "
            f"{self.worse:.1%} of prompts turn worse; perplexity {self.perplexity_ratio:.3f}x"
            f"{self._form()}){self._necessity()}"
        )

    def _form(self) -> str:
        if self.repetition_change is None or self.length_ratio is None:
            return ""
        return (
            f"; repetition {100 * self.repetition_change:+z.1f} [{100 * (self.repetition_low or 0.0):z.1f}, "
            f"{100 * (self.repetition_high or 0.0):z.1f}] points, length {self.length_ratio:.2f} "
            f"[{self.length_low or 0.0:.2f}, {self.length_high or 0.0:.2f}]x"
        )

    def _necessity(self) -> str:
        if not self.role:
            return ""
        change, low, high, detectable = (
            100 * (number or 0.0)
            for number in (self.silenced_change, self.silenced_low, self.silenced_high, self.silenced_detectable)
        )
        return (
            f". The direction is **{self.role}**: without it {self.silenced or 0.0:.1%} (change {change:z.1f} "
            f"[{low:z.1f}, {high:z.1f}] points, detectable from {detectable:.1f})"
        )

    def outcome(self) -> dict[str, str]:
        """What a person looks for, by the tag that says it on a version."""
        return {
            "works_on_text": "yes" if self.works else "no",
            "role_on_text": self.role or "not measured",
        }
