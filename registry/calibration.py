"""Calibration of a vector: its safe range of strengths, and the measured curve behind it."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from registry.errors import InvalidInput
from registry.json_record import JsonRecord

PERPLEXITY_CAP = 1.34
"""Perplexity on held-out prose over that of the unsteered model, at most: where arXiv 2402.19465 draws the line."""


@dataclass(frozen=True)
class CalibrationPoint:
    """One strength on the curve, measured on statements that the vector was not fitted on."""

    strength: float
    perplexity_ratio: float
    """Perplexity on held-out prose, over that of the unsteered model."""
    shift: float
    """By how many nats the log-probability of trustworthy statements rose against untrustworthy ones; where a
    calibration names a behaviour, by how much the share of such answers fell."""
    shift_low: float
    shift_high: float


@dataclass(frozen=True)
class HeldOutEffect:
    """The effect at the chosen strength on texts that nothing was chosen on, beside its control and its cost."""

    works: bool
    """Whether it moved the measure beyond chance and every random direction, at little cost, in the same form."""
    strength: float
    """The recommended strength where it works, else the one that did best on validation."""
    measure: str
    """Such as ``toxic continuations``, or ``preference`` between statements, in nats."""
    shift: float
    shift_low: float
    shift_high: float
    n: int
    """Statements, or prompts, behind the shift."""
    largest_random: float
    """The shift of the random direction of equal cost that moved most; of equal length in calibrations of before."""
    perplexity_ratio: float
    unsteered: float | None = None
    """The share of such answers without steering, where the measure is of answers."""
    repetition_change: float | None = None
    """Of the mean share of runs of four tokens that came before in an answer; in older ones of repeated word pairs.

    ``None`` without answers, and in the oldest.
    """
    repetition_low: float | None = None
    repetition_high: float | None = None
    length_ratio: float | None = None
    """Mean tokens of the answers over those of the unsteered ones; words in calibrations of before."""
    length_low: float | None = None
    length_high: float | None = None


@dataclass(frozen=True)
class Calibration(JsonRecord):
    """The strengths at which a vector may be used on the model that it was calibrated on.

    Raises ``InvalidInput`` when the range does not hold zero, or the recommended strength lies outside of it.
    """

    KIND: ClassVar[str] = "calibration"
    REMEDY: ClassVar[str] = "calibrate the vector again"

    low: float
    high: float
    """The model stays fluent from ``low`` to ``high``: perplexity at most ``perplexity_cap`` times the unsteered."""
    recommended: float
    """The strength that shifts most at little cost; 0 when none shifts in the wanted direction."""
    perplexity_cap: float
    points: tuple[CalibrationPoint, ...]
    """In order of strength."""
    n: int
    """Statements, or prompts, behind each shift."""
    statements_digest: str
    run_id: str
    behaviour: str = ""
    """The answers whose share was measured, such as ``toxic continuations``; empty where it was preference."""
    tested: HeldOutEffect | None = None
    """``None`` in calibrations of before it was recorded."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low <= 0 <= self.high):
            raise InvalidInput(f"the calibrated range is {self.low} to {self.high}; it must be finite and hold 0")
        if not self.low <= self.recommended <= self.high:
            raise InvalidInput(f"the recommended strength {self.recommended} is not within {self.low} to {self.high}")

    def allows(self, strength: float) -> bool:
        return self.low <= strength <= self.high

    @classmethod
    def fields_of(cls, content: Any) -> dict[str, Any]:
        points = tuple(CalibrationPoint(**point) for point in content["points"])
        tested = content.get("tested")
        return {**content, "points": points, "tested": tested and HeldOutEffect(**tested)}
