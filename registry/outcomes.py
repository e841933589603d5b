"""Outcome of a version: what steering by it was measured to do, beside its control and its cost."""

from dataclasses import dataclass

from registry.calibration import HeldOutEffect
from registry.records import RegisteredVector
from registry.verdicts import TextVerdict

POINTS, NATS = "points", "nats"


@dataclass(frozen=True)
class Outcome:
    """An effect on texts that nothing was fitted or chosen on; of an evaluation where there was one."""

    works: bool
    strength: float
    measure: str
    """Such as ``toxic continuations``, or ``preference``."""
    judged_by: str
    """``evaluation`` or ``calibration``: each has texts and random directions of its own."""
    unit: str
    effect: float
    """In ``unit``: negative is wanted of a share of answers, positive of preference."""
    low: float
    high: float
    n: int
    best_random: float
    """Of random directions at equal cost the effect that is nearest to what is wanted."""
    perplexity_ratio: float
    unsteered: float | None = None
    """The share of such answers without steering."""

    def is_like(self, other: "Outcome") -> bool:
        """Whether the two effects are of one kind of texts, so that their numbers may be read side by side."""
        return (self.measure, self.judged_by, self.unit) == (other.measure, other.judged_by, other.unit)

    def overlaps(self, other: "Outcome") -> bool:
        return self.low <= other.high and other.low <= self.high

    @property
    def interval(self) -> str:
        decimals = 1 if self.unit == POINTS else 3
        return f"{self.effect:+z.{decimals}f} [{self.low:z.{decimals}f}, {self.high:z.{decimals}f}]"

    @property
    def random(self) -> str:
        return f"{self.best_random:+z.{1 if self.unit == POINTS else 3}f}"


def outcome_of(version: RegisteredVector) -> Outcome | None:
    """What was measured of a version, if anything was. Raises ``CorruptFile`` for a damaged tag."""
    verdict, calibration = version.text_verdict, version.calibration
    if verdict is not None:
        return _of_verdict(verdict)
    return None if calibration is None or calibration.tested is None else _of_calibration(calibration.tested)


def _of_verdict(verdict: TextVerdict) -> Outcome:
    return Outcome(
        *(verdict.works, verdict.strength, verdict.behaviour, "evaluation", POINTS),
        *(100 * verdict.change, 100 * verdict.change_low, 100 * verdict.change_high, verdict.n),
        *(100 * verdict.best_random, verdict.perplexity_ratio, verdict.unsteered),
    )


def _of_calibration(tested: HeldOutEffect) -> Outcome:
    """A calibration tells by how much the share of such answers fell."""
    measured = (tested.works, tested.strength, tested.measure, "calibration")
    effect, low, high = tested.shift, tested.shift_low, tested.shift_high
    if tested.unsteered is None:
        return Outcome(*measured, NATS, effect, low, high, tested.n, tested.largest_random, tested.perplexity_ratio)
    return Outcome(
        *(*measured, POINTS, -100 * effect, -100 * high, -100 * low, tested.n),
        *(-100 * tested.largest_random, tested.perplexity_ratio, tested.unsteered),
    )
