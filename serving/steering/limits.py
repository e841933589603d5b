"""Strength limits: the ranges that calibration found, norms, and what becomes of a request beyond them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from registry.errors import CorruptFile
from registry.joint import JointLimit
from serving.steering.bank import ServedVector
from serving.steering.errors import StrengthOutOfRange
from serving.steering.plan import PHASES, Add, Intervention, Phase, is_unconditional
from serving.steering.request import OnExceed

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
    """The bounds of strengths on the model that is served."""

    norms: Mapping[int, float]
    """Median length of hidden states, by layer."""
    relative_norm: float
    """Longest offset of an uncalibrated vector, as a share of that."""

    def range_of(self, vector: ServedVector) -> Range:
        """The calibrated range of a version, where it was calibrated; else as far as its offset stays within limits.

        No strength is recommended of a version whose verdict of text is that it does not work.
        """
        try:
            calibration, verdict = vector.registered.calibration, vector.registered.text_verdict
        except CorruptFile:
            calibration = verdict = None
        if calibration is not None:
            works = verdict is None or verdict.works
            best = calibration.recommended if works else 0.0
            return Range(calibration.low, calibration.high, (min(0.0, best), max(0.0, best)), True)
        furthest = self.relative_norm / vector.relative_norm(1.0, self.norms)
        usual = min(RECOMMENDED, furthest)
        return Range(-furthest, furthest, (-usual, usual), False)

    def relative_norm_of(self, intervention: Intervention) -> float:
        """The longest offset of a token, as a share of the typical length of hidden states at the layer.

        Of several layers the largest share.
        """
        return intervention.vector.relative_norm(intervention.max_shift, self.norms)


def amount_name(intervention: Intervention) -> str:
    return "strength" if isinstance(intervention, Add) else "target"


def clamp_to_range(
    intervention: Intervention, limits: Limits, on_exceed: OnExceed, param: str, warnings: list[str]
) -> Intervention:
    """The intervention within the range of its vector. A projection moves no token further than the range lets add.

    Raises ``StrengthOutOfRange`` beyond the range where ``on_exceed`` is ``reject``, and for a projection without room.
    """
    allowed, reference = limits.range_of(intervention.vector), intervention.vector.reference
    name, amount = amount_name(intervention), intervention.amount
    if amount in allowed:
        low, high = allowed.recommended
        if not low <= amount <= high:
            warnings.append(f"{reference}: {name} {amount:g} is beyond the recommended {low:g} to {high:g}")
    else:
        kind = "calibrated" if allowed.calibrated else "uncalibrated"
        message = (
            f"{name} {amount:g} on {reference} is beyond its {kind} range, {allowed.low:.3g} to {allowed.high:.3g}"
        )
        _reject_or_warn(message, on_exceed, param, warnings)
        if on_exceed == "clamp":
            intervention = intervention.with_amount(allowed.clamp(amount))
    if isinstance(intervention, Add):
        return intervention
    low, high = min(allowed.low, intervention.target, 0.0), max(allowed.high, intervention.target, 0.0)
    projection = replace(intervention, low=low, high=high)
    if not projection.max_shift:
        raise StrengthOutOfRange(
            f"{reference} may be moved by {allowed.low:g} to {allowed.high:g}, which leaves `{projection.bound}` no "
            "room; leave it out",
            param=param,
        )
    return projection


def clamp_layer_sums(
    interventions: Mapping[str, Intervention], limits: Limits, on_exceed: OnExceed, warnings: list[str]
) -> dict[str, Intervention]:
    """Offsets at one layer add up. Their sum may not exceed the limit, or the largest single offset if that is greater.

    ``interventions`` are by the field that asks for them. Projections are given the room that strengths leave, unless
    ``on_exceed`` is ``warn``. Raises ``StrengthOutOfRange`` where it is ``reject`` and projections alone do not help.
    """
    within = dict(interventions)
    # What opposes others at one layer may give way at a later one, so layers are looked at until none has to.
    while (clamped := _clamped_once(interventions, within, limits, on_exceed, warnings)) != within:
        within = clamped
    return within


def _clamped_once(
    interventions: Mapping[str, Intervention],
    within: Mapping[str, Intervention],
    limits: Limits,
    on_exceed: OnExceed,
    warnings: list[str],
) -> dict[str, Intervention]:
    within = dict(within)
    for layer in _steered_layers(within.values()):
        at_layer = {param: given for param, given in within.items() if layer in given.vector.layers and given.max_shift}
        # What was given way for a lower layer counts no more; what each may move alone stays as it was asked.
        norm = _layer_norm(at_layer.values(), layer, limits.norms)
        alone = (_norm_at(interventions[param], layer, limits.norms) for param in at_layer)
        most = max(limits.relative_norm, *alone)
        if len(at_layer) < 2 or norm <= most * (1 + 1e-6):
            continue
        projections = {param: given for param, given in at_layer.items() if not isinstance(given, Add)}
        projected = sum(_norm_at(given, layer, limits.norms) for given in projections.values())
        room = most - (norm - projected)
        if projections and room > 0 and on_exceed != "warn":
            share = room / projected
            warnings.append(
                f"at layer {layer} the steering may add up to a relative norm of {norm:.3g}, over {most:.3g}; "
                f"projections are limited to {share:.0%} of their range"
            )
            within |= {param: given.shrunk(share) for param, given in projections.items()}
            continue
        first, given = next(iter(at_layer.items()))
        message = f"the steering at layer {layer} adds up to a relative norm of {norm:.3g}, over {most:.3g}"
        _reject_or_warn(message, on_exceed, first.removesuffix(f".{amount_name(given)}"), warnings)
        if on_exceed == "clamp":
            within |= {param: given.shrunk(most / norm) for param, given in at_layer.items()}
    return within


def clamp_to_joint_limit(
    interventions: Mapping[str, Intervention], on_exceed: OnExceed, warnings: list[str]
) -> dict[str, Intervention]:
    """Strengths of champions that were calibrated together, within what was measured of them together.

    Strengths of several, each over that at which all were measured, may not add up to more than were measured.
    Projections do not count: their ranges bound them. Raises ``StrengthOutOfRange``.
    """
    within = dict(interventions)
    for limit in {limit.run_id: limit for limit in map(joint_limit_of, within.values()) if limit}.values():
        members = {
            param: given
            for param, given in within.items()
            if (own := joint_limit_of(given)) and own.run_id == limit.run_id
        }
        shares = [limit.share(given.vector.dimension, given.amount) for given in members.values()]
        if not limit.is_exceeded_by(shares):
            continue
        factor = limit.most / sum(shares)
        fits = ", ".join(f"{given.vector.dimension}={given.amount * factor:.3g}" for given in members.values())
        message = (
            f"these strengths, each over that at which all were measured together (perplexity "
            f"{limit.perplexity_ratio:.3g}x), add up to {sum(shares):.3g}, over {limit.most:.3g}; {fits} would fit"
        )
        first = next(iter(members))
        _reject_or_warn(message, on_exceed, first.removesuffix(".strength"), warnings, what="them")
        if on_exceed == "clamp":
            within |= {param: given.shrunk(factor) for param, given in members.items()}
    return within


def joint_limit_of(intervention: Intervention) -> JointLimit | None:
    """The joint limit of a strength's vector, if it has one that can be read."""
    try:
        return intervention.vector.registered.joint_limit if isinstance(intervention, Add) else None
    except CorruptFile:
        return None


def _reject_or_warn(message: str, on_exceed: OnExceed, param: str, warnings: list[str], *, what: str = "it") -> None:
    if on_exceed == "reject":
        in_block = ", or set `on_exceed` to clamp or warn"
        raise StrengthOutOfRange(f"{message}; lower {what}", param=param, in_block=in_block)
    warnings.append(f"{message}; {'clamped' if on_exceed == 'clamp' else 'applied all the same'}")


def layer_norms(interventions: Iterable[Intervention], norms: Mapping[int, float]) -> dict[int, float]:
    """At each steered layer the longest offset of any phase, as a share of the layer's typical hidden state.

    Interventions that depend on hidden states count as if they all fired and went as far as they may, in one direction.
    Beyond about 1 a model says little that makes sense.
    """
    given = tuple(interventions)
    return {layer: _layer_norm(given, layer, norms) for layer in _steered_layers(given)}


def _steered_layers(interventions: Iterable[Intervention]) -> list[int]:
    return sorted({layer for given in interventions if given.max_shift for layer in given.vector.layers})


def _layer_norm(interventions: Iterable[Intervention], layer: int, norms: Mapping[int, float]) -> float:
    acting = [given for given in interventions if given.max_shift and layer in given.vector.layers]
    return max(_longest_offset(acting, layer, phase) for phase in PHASES) / norms[layer]


def _norm_at(intervention: Intervention, layer: int, norms: Mapping[int, float]) -> float:
    return intervention.vector.relative_norm_at(layer, intervention.max_shift, norms)


def _longest_offset(interventions: Iterable[Intervention], layer: int, phase: Phase) -> float:
    offsets, furthest = [np.zeros(1, np.float32)], 0.0
    for intervention in interventions:
        if not intervention.scope.includes(phase):
            continue
        direction = intervention.vector.vector.at(layer)
        if is_unconditional(intervention):
            offsets.append(direction.offset(intervention.amount))
        else:
            furthest += intervention.max_shift * direction.scale
    return float(np.linalg.norm(sum(offsets))) + furthest
