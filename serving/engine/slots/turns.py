"""Turns: which clients compute in the next step, and how much of it is theirs.

Over time each has had as much as the others; and what is short goes before what is long (least attained service), so
that who asks for a little hardly notices who asks for much.
"""

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

from serving.engine.slots.leads import Leads, shared
from serving.engine.slots.slot_sequence import SlotSequence
from serving.engine.slots.spells import Spells

SHARING = 2
"""Where several clients compute, pieces of their prompts are so much shorter: a step waits for its longest part."""
PATIENCE = 8
"""Steps' worth of computation by which a client may be ahead of the one that has had least."""
SHORT = 16
"""Steps' worth of computation up to which a client has had little since it came."""
BESIDE = 4
"""Where somebody has had little, so many answers run of all who have had much, and of each other who has had little;
texts of the former take so small a part of the time, and their prompts so small a part of a step's, once more halved.
"""
RUN = 8
"""Tokens of an answer that follow each other, where not all answers run: a step that has the same answers as the one
before costs less.
"""


@dataclass(frozen=True)
class Turn:
    clients: frozenset[str]
    """Those who compute."""
    piece: int
    """Tokens of prompts at most."""
    short: frozenset[str] = frozenset()
    """Of the clients, those who have had little."""

    @property
    def beside(self) -> frozenset[str]:
        """Those who have had much, where others have had little."""
        return self.clients - self.short if self.short else frozenset()

    @property
    def piece_beside(self) -> int:
        """Tokens of the prompts of ``beside``, at most."""
        return max(1, self.piece // (2 * BESIDE))

    def answering(self, answers: Iterable[SlotSequence]) -> list[SlotSequence]:
        """Of ``answers`` those that run; of some, the shortest."""
        first, beside = self.split(answers)
        by_client: dict[str, list[SlotSequence]] = {}
        for answer in first:
            by_client.setdefault(answer.request.client, []).append(answer)
        most = max(BESIDE, min(map(len, by_client.values()), default=0)) if self.short else len(first)
        return [answer for of_client in by_client.values() for answer in _shortest(of_client, most)] + _shortest(
            beside, BESIDE
        )

    def split(self, sequences: Iterable[SlotSequence]) -> tuple[list[SlotSequence], list[SlotSequence]]:
        """Those of clients that go first, and of ``beside``."""
        beside = self.beside
        parts: tuple[list[SlotSequence], list[SlotSequence]] = ([], [])
        for sequence in sequences:
            parts[sequence.request.client in beside].append(sequence)
        return parts


def _shortest(answers: list[SlotSequence], count: int) -> list[SlotSequence]:
    if len(answers) <= count:
        return answers
    return sorted(answers, key=lambda answer: len(answer.tokens) // RUN)[:count]


class Turns:
    """Belongs to the engine's thread. A step takes ``prefill_chunk`` tokens of prompts at most.

    ``clock`` tells seconds of computation.
    """

    def __init__(self, prefill_chunk: int, clock: Callable[[], float]) -> None:
        self.clock = clock
        self._prefill_chunk = prefill_chunk
        self._leads, self._spells = Leads(), Spells()
        self._step_seconds = 0.0
        """How long a step takes; later ones count more."""
        self._until_read = 0.0
        """Seconds of computation until a text is read again of who has had much beside others."""

    def among(self, clients: Collection[str]) -> None:
        """These clients, and no others, have something to compute or wait for it."""
        self._leads, self._spells = self._leads.among(clients), self._spells.among(clients, time.monotonic())

    def lead(self, client: str) -> float:
        """Seconds of computation by which a client is ahead."""
        return self._leads.of(client)

    def computing(self, able: Collection[str]) -> frozenset[str]:
        """Those of ``able`` that are not too far ahead."""
        return self._leads.next_of(able, PATIENCE * self._step_seconds)

    def next_of(self, able: Collection[str]) -> Turn:
        clients = self.computing(able)
        piece = self._prefill_chunk if len(able) == 1 else max(1, self._prefill_chunk // SHARING)
        return Turn(clients, piece, self._spells.short(clients, SHORT * self._step_seconds))

    def readers(self, turn: Turn) -> frozenset[str]:
        """Those of whose texts a piece may be read."""
        return turn.clients if self._until_read <= 0 else turn.clients - turn.beside

    def charge_reading(self, turn: Turn, client: str, seconds: float) -> None:
        self._until_read += (BESIDE - 1) * seconds * (client in turn.beside)
        self._charge({client: seconds})

    def charge_step(self, tokens: Mapping[str, int], seconds: float) -> None:
        """A step of so many tokens of each client has taken so long."""
        self._step_seconds += 0.1 * (seconds - self._step_seconds)
        self._until_read = max(0.0, self._until_read - seconds)
        self._charge(shared(seconds, tokens))

    def _charge(self, seconds: Mapping[str, float]) -> None:
        self._leads, self._spells = self._leads.charged(seconds), self._spells.charged(seconds)
