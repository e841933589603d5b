"""Joint limit: how strong the champions of several dimensions may be at once, as `-e calibrate` measured it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from registry.errors import InvalidInput
from registry.json_record import JsonRecord


@dataclass(frozen=True)
class JointLimit(JsonRecord):
    """All members were measured together at ``scale`` times the strength that is recommended for each alone.

    Versions of one calibration carry the same limit. Raises ``InvalidInput`` for fewer than two members, a strength
    that is not positive, and a scale that is not within 0 and 1.
    """

    KIND: ClassVar[str] = "joint limit"
    REMEDY: ClassVar[str] = "calibrate the dimensions again"

    strengths: Mapping[str, float]
    """Recommended alone, by dimension."""
    scale: float
    perplexity_ratio: float
    """Of all together at ``scale``, on test prose."""
    kept: Mapping[str, float]
    """The share of its own effect that each dimension keeps there, on its test half."""
    run_id: str

    def __post_init__(self) -> None:
        if len(self.strengths) < 2 or min(self.strengths.values()) <= 0 or not 0 < self.scale <= 1:
            raise InvalidInput(f"no joint limit has strengths {dict(self.strengths)} and scale {self.scale}")

    @property
    def budget(self) -> float:
        """What the shares of the recommended strengths may add up to."""
        return self.scale * len(self.strengths)

    def share(self, dimension: str, strength: float) -> float:
        """``strength`` over that recommended alone, without its sign."""
        return abs(strength) / self.strengths[dimension]
