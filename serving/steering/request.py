"""Steering request: what one request says about steering, as plain values."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from serving.steering.monitor import StopCondition
from serving.steering.plan import Bound, ProbeCondition, TokenScope

OnExceed = Literal["reject", "clamp", "warn"]
"""What happens to a strength beyond its range."""


@dataclass(frozen=True)
class DimensionSteering:
    """Steering through the champions, by dimension; also the server's default."""

    strengths: Mapping[str, float] = field(default_factory=dict)
    """Dimension → standard deviations; positive is more trustworthy."""
    targets: Mapping[str, float] = field(default_factory=dict)
    """Dimension → where its projection is brought, in standard deviations from the fitting activations' mean."""
    bound: Bound | None = None
    """Of every target; ``exactly`` where there is none."""
    condition: ProbeCondition | None = None
    """Of every strength and target here."""
    scope: TokenScope | None = None
    """Of every strength and target here; the default scope where there is none."""

    @property
    def names(self) -> set[str]:
        """The dimensions that it steers."""
        return {*self.strengths, *self.targets}

    def without(self, names: set[str]) -> "DimensionSteering":
        return DimensionSteering(
            {name: strength for name, strength in self.strengths.items() if name not in names},
            {name: target for name, target in self.targets.items() if name not in names},
            self.bound,
            self.condition,
            self.scope,
        )

    def to_dict(self) -> dict[str, Any]:
        """As ``PUT /v1/steering/default`` takes it."""
        when = None if self.condition is None else {"probe_below": self.condition.probe_below}
        apply = None if self.scope is None else asdict(self.scope)
        amounts = {"strengths": dict(self.strengths), "targets": dict(self.targets)}
        return {**amounts, "bound": self.bound, "when": when, "apply": apply}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "DimensionSteering":
        """The inverse of ``to_dict``; a field that is missing says nothing."""
        when, apply = values.get("when"), values.get("apply")
        condition = None if when is None else ProbeCondition(when["probe_below"])
        scope = None if apply is None else TokenScope(**apply)
        return cls(values.get("strengths") or {}, values.get("targets") or {}, values.get("bound"), condition, scope)


@dataclass(frozen=True)
class VectorSteering:
    """Steering through one vector by its registry reference, such as ``steer.smollm2.privacy/2`` or ``…@champion``."""

    reference: str
    operation: Literal["add", "project"] = "add"
    strength: float | None = None
    """What ``add`` adds, in standard deviations."""
    target: float | None = None
    """Where ``project`` brings the projection: standard deviations from the fitting activations' mean."""
    bound: Bound | None = None
    condition: ProbeCondition | None = None
    layers: tuple[int, ...] | None = None
    """A vector is valid at the layers where it was fitted; others are refused."""
    scope: TokenScope = field(default_factory=TokenScope)


@dataclass(frozen=True)
class SteeringRequest:
    """All that one request says about steering. The empty one inherits the server's default."""

    dimensions: DimensionSteering = field(default_factory=DimensionSteering)
    vectors: tuple[VectorSteering, ...] = ()
    on_exceed: OnExceed = "reject"
    inherits: bool = True
    """Whether dimensions that it does not name are steered by the server's default."""
    monitor: tuple[str, ...] = ()
    """Dimensions whose probes read the answer."""
    stop: StopCondition | None = None
