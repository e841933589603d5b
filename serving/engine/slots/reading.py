"""Readings: requests for hidden states, read piece by piece between the steps of the answers that run."""

from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future
from typing import Any

import numpy as np
from jaxtyping import Float32

from serving.engine.admission import Admission
from serving.engine.base import HiddenStates, Keep
from serving.engine.slots.model_runner import ModelRunner

DEPTH, LEAST = 1024, 64
"""A piece is halved at the first depth, a third at twice as deep, …, down to the least: each token reads all that are
before it, so that at 8,000 a whole piece takes four times what it takes at the beginning.
"""


class StateReading:
    """Sequences of tokens, the layers to read them at, and what to keep. Belongs to the engine's thread, but for the
    future.
    """

    def __init__(
        self, sequences: Sequence[Sequence[int]], layers: Sequence[int], client: str, keep: Keep | None
    ) -> None:
        self.future: Future[HiddenStates] = Future()
        self.client = client
        self._sequences, self._layers, self._keep = sequences, layers, keep
        self._read: HiddenStates = []
        self._pieces: list[dict[int, Float32[np.ndarray, "tokens ..."]]] = []
        self._position = 0
        self._cache: Any = None

    @property
    def is_complete(self) -> bool:
        return len(self._read) == len(self._sequences)

    @property
    def depth(self) -> int:
        """Tokens of its sequence that are read."""
        return self._position

    @property
    def is_amid(self) -> bool:
        """Whether it holds the keys and values of a sequence that is read in part."""
        return self._cache is not None

    @property
    def nbytes(self) -> int:
        """Of those keys and values."""
        layers = () if self._cache is None else self._cache.layers
        return sum(held.nbytes for layer in layers for held in (layer.keys, layer.values) if held is not None)

    def is_next_long(self, chunk: int) -> bool:
        """Whether its next sequence takes more than one piece."""
        return not self.is_complete and len(self._sequences[len(self._read)]) > chunk

    def advance(self, runner: ModelRunner, count: int) -> None:
        """Read at most ``count`` further tokens of one sequence."""
        if self.is_complete:
            return
        tokens = self._sequences[len(self._read)]
        if self._cache is None and len(tokens) > count:
            self._cache = runner.new_cache()
        piece = tokens[self._position : self._position + count]
        states = runner.read(piece, self._layers, self._cache)
        self._pieces.append(states if self._keep is None else self._keep(states))
        self._position += len(piece)
        if self._position == len(tokens):
            pieces = self._pieces
            self._read.append({key: np.concatenate([piece[key] for piece in pieces]) for key in pieces[0]})
            self._pieces, self._position, self._cache = [], 0, None

    def finish(self, error: Exception | None = None) -> None:
        if self.future.set_running_or_notify_cancel():
            if error is None:
                self.future.set_result(self._read)
            else:
                self.future.set_exception(error)


class Readings:
    """The readings that have not ended. The next piece is of the client that is least ahead, so that a long text holds
    up nobody's short one; at most ``most_amid`` sequences are read in part at once, which bounds their memory.
    """

    def __init__(self, runner: ModelRunner, admission: Admission, chunk: int, most_amid: int) -> None:
        self.most_amid = most_amid
        self._runner, self._admission, self._chunk = runner, admission, chunk
        self._readings: list[StateReading] = []
        """In the order in which they came; changed under the admission's lock alone."""

    def __len__(self) -> int:
        return len(self._readings)

    def held(self, client: str) -> int:
        return sum(reading.client == client for reading in tuple(self._readings))

    @property
    def nbytes(self) -> int:
        """Of the keys and values of sequences that are read in part."""
        return sum(reading.nbytes for reading in tuple(self._readings))

    def add(self, reading: StateReading) -> None:
        """From any thread, under the admission's lock."""
        self._readings.append(reading)

    @property
    def waiting(self) -> frozenset[str]:
        """The clients of all of them."""
        return frozenset(reading.client for reading in tuple(self._readings))

    @property
    def clients(self) -> frozenset[str]:
        """Those of whose texts a piece can be read now."""
        return frozenset(reading.client for reading in self._able())

    def advance(self, clients: Collection[str], lead: Callable[[str], float], piece: int) -> str | None:
        """Read a short text, or ``piece`` tokens of a long one, for the one of ``clients`` that is least ahead, and say
        which; what it raises ends its reading alone.
        """
        for left in [reading for reading in tuple(self._readings) if reading.future.cancelled()]:
            self._finish(left)
        able = [reading for reading in self._able() if reading.client in clients]
        reading = min(able, key=lambda reading: lead(reading.client), default=None)
        if reading is None:
            return None
        try:
            is_long = reading.is_amid or reading.is_next_long(self._chunk)
            reading.advance(self._runner, self._shortened(piece, reading.depth) if is_long else self._chunk)
        except Exception as error:
            self._finish(reading, error)
        else:
            if reading.is_complete:
                self._finish(reading)
        return reading.client

    def end_all(self, error: Exception) -> None:
        for reading in tuple(self._readings):
            self._finish(reading, error)

    def _able(self) -> list[StateReading]:
        """The first of each client, where it can go on."""
        first: dict[str, StateReading] = {}
        for reading in tuple(self._readings):
            first.setdefault(reading.client, reading)
        has_room = sum(reading.is_amid for reading in first.values()) < self.most_amid
        return [
            reading
            for reading in first.values()
            if has_room or reading.is_amid or not reading.is_next_long(self._chunk)
        ]

    def _shortened(self, piece: int, depth: int) -> int:
        """Where nobody waits for it a piece is as long as it may be, which takes a fifth less in all."""
        answers = self._admission.active + self._admission.waiting - len(self._readings)
        if piece == self._chunk and not answers:
            return piece
        return min(piece, max(LEAST, piece // (1 + depth // DEPTH)))

    def _finish(self, reading: StateReading, error: Exception | None = None) -> None:
        with self._admission.changed:
            self._readings.remove(reading)
        reading.finish(error)
        self._admission.ended()
