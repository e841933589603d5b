"""Leads: how much more has been computed for each client than for the one for which least was, and so who is next.

The virtual token counter of Sheng et al., "Fairness in Serving Large Language Models" (OSDI 2024), with seconds in the
place of weighted tokens: a generated token costs as much as thirty tokens of a prompt where it has a step for itself,
and little where many share one.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Leads:
    """In seconds of computation. A client without one has lead 0."""

    at_work: Mapping[str, float] = field(default_factory=dict)
    """Of clients that have something to compute or wait for it."""
    gone: Mapping[str, float] = field(default_factory=dict)
    """Of clients that left ahead of all that stayed; forgotten as soon as these have had as much."""

    def of(self, client: str) -> float:
        return self.at_work.get(client, self.gone.get(client, 0.0))

    def among(self, clients: Collection[str]) -> "Leads":
        """Once these clients, and no others, have something to compute.

        Who comes begins beside the least of those that stay, or where it left if that is further ahead: who was idle
        has saved up nothing, and who leaves to come again is forgiven nothing.
        """
        known = {**self.gone, **self.at_work}
        least = min((lead for client, lead in self.at_work.items() if client in clients), default=0.0)
        return Leads(
            {client: max(0.0, known.get(client, 0.0) - least) for client in clients},
            {client: lead - least for client, lead in known.items() if client not in clients and lead > least},
        )

    def charged(self, seconds: Mapping[str, float]) -> "Leads":
        """Once so much has been computed for clients at work."""
        return Leads({client: lead + seconds.get(client, 0.0) for client, lead in self.at_work.items()}, self.gone)

    def next_of(self, able: Collection[str], patience: float) -> frozenset[str]:
        """Those of ``able`` that compute next: all but who is over ``patience`` seconds ahead of the least of them."""
        least = min(map(self.of, able), default=0.0)
        return frozenset(client for client in able if self.of(client) <= least + patience)


def shared(seconds: float, tokens: Mapping[str, int]) -> dict[str, float]:
    """What each client's tokens cost of the seconds that all took together."""
    total = sum(tokens.values())
    return {client: seconds * count / total for client, count in tokens.items()}
