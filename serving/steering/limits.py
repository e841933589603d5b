"""How far a request may steer: the ranges that calibration found, and what becomes of a request beyond them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from registry.errors import CorruptFile
from serving.api.errors import DoseExceeded
from serving.api.steering.block import Apply, OnExceed
from serving.model.norms import relative_dose
from serving.steering.bank import Bound, Move, SteeringPlan, VectorStrength, VectorTarget
from serving.steering.catalog import Loaded

RECOMMENDED = 2.0
"""How far an uncalibrated vector is recommended to be used, in standard deviations."""


@dataclass(frozen=True)
class Range:
    """The strengths at which one vector may be used, and those at which it should be."""

    low: float
    high: float
    recommended: tuple[float, float]
    calibrated: bool

    def __contains__(self, strength: float) -> bool:
        return self.low <= strength <= self.high

    def clamp(self, strength: float) -> float:
        return min(max(strength, self.low), self.high)


@dataclass(frozen=True)
class Limits:
    """By what strengths are bounded on the model that is served."""

    norms: Mapping[int, float]
    """Median length of hidden states, by layer."""
    dose: float
    """Longest offset of an uncalibrated vector, as a share of that."""

    def range_of(self, one: Loaded) -> Range:
        """The calibrated range of a version, where it was calibrated; else as far as its offset stays within limits."""
        try:
            calibration = one.registered.calibration
        except CorruptFile:
            calibration = None
        if calibration is not None:
            best = calibration.recommended
            return Range(calibration.low, calibration.high, (min(0.0, best), max(0.0, best)), True)
        furthest = self.dose / one.vector.relative_dose(1.0, self.norms)
        usual = min(RECOMMENDED, furthest)
        return Range(-furthest, furthest, (-usual, usual), False)


@dataclass(frozen=True)
class Applied:
    """One vector of a request, as it is used."""

    one: Loaded
    amount: float
    """A strength to add, or the target of a projection."""
    requested: float
    param: str
    """The field of the request that asked for it."""
    apply: Apply = field(default_factory=Apply)
    below: float | None = None
    """The probe's threshold, where there is a condition."""
    bound: Bound | None = None
    """Of a projection; ``None`` adds."""
    low: float = 0.0
    high: float = 0.0
    """The furthest that a projection may be moved."""

    @property
    def name(self) -> str:
        return "strength" if self.bound is None else "target"

    def move(self, row: int = 0) -> Move:
        """What the engine is told, of this row of the bank."""
        scopes = self.apply.prompt, self.apply.generation, self.below
        if self.bound is None:
            return VectorStrength(row, self.amount, *scopes)
        return VectorTarget(row, self.amount, self.low, self.high, self.bound, *scopes)

    def dose(self, limits: Limits) -> float:
        """The longest offset of a token, as a share of the typical length of its layer's hidden states."""
        return self.one.vector.relative_dose(self.move().reach, limits.norms)

    def shrunk(self, share: float) -> "Applied":
        """The same with no more than ``share`` of its reach."""
        if self.bound is None:
            return replace(self, amount=self.amount * share)
        return replace(self, low=self.low * share, high=self.high * share)


def bounded(one: Applied, limits: Limits, on_exceed: OnExceed, warnings: list[str]) -> Applied:
    """``one`` within the range of its vector. A projection moves no token further than the range allows to add.

    Raises ``DoseExceeded`` beyond the range where ``on_exceed`` is to reject, and for a projection without any room.
    """
    allowed, reference = limits.range_of(one.one), one.one.vector.reference
    if one.amount in allowed:
        low, high = allowed.recommended
        if not low <= one.amount <= high:
            warnings.append(f"{reference}: {one.name} {one.amount:g} is beyond the recommended {low:g} to {high:g}")
    else:
        kind = "calibrated" if allowed.calibrated else "uncalibrated"
        message = (
            f"{one.name} {one.amount:g} on {reference} is beyond its {kind} range, {allowed.low:.3g} to "
            f"{allowed.high:.3g}"
        )
        if on_exceed == "reject":
            raise DoseExceeded(f"{message}; lower it, or set on_exceed to clamp or warn", param=one.param)
        warnings.append(f"{message}; {'clamped' if on_exceed == 'clamp' else 'applied all the same'}")
        if on_exceed == "clamp":
            one = replace(one, amount=allowed.clamp(one.amount))
    if one.bound is None:
        return one
    one = replace(one, low=min(allowed.low, one.amount, 0.0), high=max(allowed.high, one.amount, 0.0))
    if not one.move().reach:
        message = f"{reference} may be moved by {allowed.low:g} to {allowed.high:g}, which leaves {one.bound} no room"
        raise DoseExceeded(f"{message}; leave it out", param=one.param)
    return one


def bounded_together(
    used: list[Applied],
    limits: Limits,
    plan: Callable[[Sequence[Applied]], SteeringPlan],
    on_exceed: OnExceed,
    warnings: list[str],
) -> list[Applied]:
    """Vectors of one layer add up: their sum may be no longer than the limit, or the longest of them may be.

    Projections are given what room the strengths leave, whatever ``on_exceed`` says but ``warn``.
    """
    for layer, dose in relative_dose(plan(used), limits.norms).items():
        here = [one for one in used if one.one.vector.layer == layer and one.move().reach]
        most = max(limits.dose, *(one.dose(limits) for one in here))
        if len(here) < 2 or dose <= most * (1 + 1e-6):
            continue
        projected = [one for one in here if one.bound is not None]
        reach = sum(one.dose(limits) for one in projected)
        room = most - (dose - reach)
        if projected and room > 0 and on_exceed != "warn":
            warnings.append(
                f"at layer {layer} the steering may add up to a relative dose of {dose:.3g}, over {most:.3g}; "
                f"projections are limited to {room / reach:.0%} of their range"
            )
            used = [one.shrunk(room / reach) if one in projected else one for one in used]
            continue
        message = f"the steering at layer {layer} adds up to a relative dose of {dose:.3g}, over {most:.3g}"
        if on_exceed == "reject":
            param = here[0].param.rpartition(f".{here[0].name}")[0]
            raise DoseExceeded(f"{message}; lower it, or set on_exceed to clamp or warn", param=param)
        warnings.append(f"{message}; {'clamped' if on_exceed == 'clamp' else 'applied all the same'}")
        if on_exceed == "clamp":
            used = [one.shrunk(most / dose) if one in here else one for one in used]
    return used
