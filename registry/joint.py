"""Joint limit: how strong the champions of several dimensions may be at once, as `-e calibrate` measured it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from registry.errors import InvalidInput
from registry.json_record import JsonRecord

ROUNDING = 1e-6


@dataclass(frozen=True)
class JointLimit(JsonRecord):
    """All members were measured together, each at a share of the strength that is recommended for it alone.

    Versions of one calibration carry the same limit. Raises ``InvalidInput`` for fewer than two members, a strength
    that is no positive number, a scale that is not within 0 and 1, and scales of others than the members.
    """

    KIND: ClassVar[str] = "joint limit"
    REMEDY: ClassVar[str] = "calibrate the dimensions again"

    strengths: Mapping[str, float]
    """Recommended alone, by dimension."""
    scale: float
    """The mean of the members' scales."""
    perplexity_ratio: float
    """Of all together, on test prose."""
    kept: Mapping[str, float]
    """The share of its own effect that each dimension keeps there, on its test half."""
    run_id: str
    scales: Mapping[str, float] = field(default_factory=dict)
    """By dimension; empty in limits of before, when all had one ``scale``."""

    def __post_init__(self) -> None:
        scales = [self.scale, *self.scales.values()]
        strengths = self.strengths.values()
        if (
            len(strengths) < 2
            or not all(0 < scale <= 1 for scale in scales)
            or not all(0 < strength * min(scales) < math.inf for strength in strengths)
        ):
            raise InvalidInput(f"no joint limit has strengths {dict(self.strengths)} and scales {scales}")
        if self.scales and set(self.scales) != set(self.strengths):
            raise InvalidInput(f"scales are of {', '.join(self.scales)} and strengths of {', '.join(self.strengths)}")

    @property
    def most(self) -> float:
        """What the shares of several members may add up to: 1 for each that was measured."""
        return float(len(self.strengths))

    def is_exceeded_by(self, shares: Sequence[float]) -> bool:
        """Whether these are of several members, and more than they may be; one alone is bounded by its range."""
        several = sum(share > 0 for share in shares) > 1
        return several and sum(shares) > self.most * (1 + ROUNDING)

    def scale_of(self, dimension: str) -> float:
        return self.scales.get(dimension, self.scale)

    @property
    def together(self) -> dict[str, float]:
        """The strengths at which all were measured, by dimension."""
        return {name: self.scale_of(name) * strength for name, strength in self.strengths.items()}

    def share(self, dimension: str, strength: float) -> float:
        """``strength`` over that at which all were measured together, without its sign."""
        return abs(strength) / self.together[dimension]
