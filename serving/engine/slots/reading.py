"""StateReading: a request for hidden states, read piece by piece between the steps of the answers that run."""

from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

import numpy as np
from jaxtyping import Float32

from serving.engine.base import HiddenStates
from serving.engine.slots.model_runner import ModelRunner


class StateReading:
    """Sequences of tokens and the layers to read them at. Belongs to the engine's thread, but for the future."""

    def __init__(self, sequences: Sequence[Sequence[int]], layers: Sequence[int]) -> None:
        self.future: Future[HiddenStates] = Future()
        self._sequences, self._layers = sequences, layers
        self._read: HiddenStates = []
        self._pieces: list[dict[int, Float32[np.ndarray, "tokens d_model"]]] = []
        self._position = 0
        self._cache: Any = None

    @property
    def is_complete(self) -> bool:
        return len(self._read) == len(self._sequences)

    def advance(self, runner: ModelRunner, chunk: int) -> None:
        """Read at most ``chunk`` further tokens of one sequence."""
        if self.is_complete:
            return
        tokens = self._sequences[len(self._read)]
        if self._cache is None and len(tokens) > chunk:
            self._cache = runner.new_cache()
        piece = tokens[self._position : self._position + chunk]
        self._pieces.append(runner.read(piece, self._layers, self._cache))
        self._position += len(piece)
        if self._position == len(tokens):
            pieces = self._pieces
            self._read.append({layer: np.concatenate([piece[layer] for piece in pieces]) for layer in self._layers})
            self._pieces, self._position, self._cache = [], 0, None

    def finish(self, error: Exception | None = None) -> None:
        if self.future.set_running_or_notify_cancel():
            if error is None:
                self.future.set_result(self._read)
            else:
                self.future.set_exception(error)
