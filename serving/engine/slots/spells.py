"""Spells: how much has been computed for each client since it came, and so who goes before whom in a step.

Least attained service first, by client: what is short ends soon, and costs what is long little.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Spells:
    """In seconds of computation. A client is forgiven as many of them as it stays away, so that pauses of a moment
    make nobody new.
    """

    had: Mapping[str, float] = field(default_factory=dict)
    left: Mapping[str, float] = field(default_factory=dict)
    """When who is away left; forgotten once all is forgiven."""

    def among(self, clients: Collection[str], now: float) -> "Spells":
        """Once these clients, and no others, have something to compute."""
        left = {client: self.left.get(client, now) for client in self.had if client not in clients}
        had = {client: max(0.0, self.had.get(client, 0.0) - now + self.left.get(client, now)) for client in clients}
        away = {client: self.had[client] for client, since in left.items() if self.had[client] > now - since}
        return Spells(had | away, {client: left[client] for client in away})

    def charged(self, seconds: Mapping[str, float]) -> "Spells":
        """Once so much has been computed for clients at work."""
        return Spells({client: had + seconds.get(client, 0.0) for client, had in self.had.items()}, self.left)

    def short(self, clients: Collection[str], most: float) -> frozenset[str]:
        """Those who have had at most so much."""
        return frozenset(client for client in clients if self.had.get(client, 0.0) <= most)
