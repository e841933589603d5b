"""Monitor: registered probes that read an answer while it is generated, and the readings at which it ends.

A reading is P(trustworthy) of the hidden state that a token was drawn from: of prompt and answer before that token. A
probe of answers reads the mean over the latest of these states, those of the answer's tokens alone, so that there is no
reading beside the first token. A probe reads what its block left before anything is added at its own layer: that never
shows in its readings but by the tokens that were drawn, while what lower layers add does.
"""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from registry.errors import InvalidInput
from registry.vectors import LinearProbe
from serving.steering.bank import ServedVector

Reading = float | None
"""P(trustworthy); ``None`` where nothing has been read yet."""


@dataclass(frozen=True)
class StopCondition:
    """End an answer once one probe reads below a threshold for so many tokens in a row."""

    probe_below: float
    tokens: int = 1

    def __post_init__(self) -> None:
        if not 0 < self.probe_below <= 1:
            raise InvalidInput(f"`probe_below` is {self.probe_below} and must be a probability over 0 and at most 1")
        if self.tokens < 1:
            raise InvalidInput(f"`for` is {self.tokens} and must be at least 1 token")


@dataclass(frozen=True)
class Monitor:
    """The vectors whose probes read an answer. Raises ``InvalidInput`` for one without a probe that may be used."""

    vectors: tuple[ServedVector, ...]
    stop: StopCondition | None = None

    def __post_init__(self) -> None:
        for vector in self.vectors:
            try:
                vector.require_reader()
            except InvalidInput as error:
                raise InvalidInput(f"{error}; leave `monitor` out, or name another dimension") from error

    @property
    def probes(self) -> tuple[LinearProbe, ...]:
        return tuple(vector.require_reader() for vector in self.vectors)

    @property
    def references(self) -> tuple[str, ...]:
        return tuple(vector.reference for vector in self.vectors)

    @property
    def dimensions(self) -> tuple[str, ...]:
        return tuple(vector.dimension for vector in self.vectors)


class RunningReadings:
    """One answer's readings while it is written: each probe's, of as many latest tokens as it reads at once."""

    def __init__(self, probes: Sequence[LinearProbe]) -> None:
        self._probes = tuple(probes)
        self._latest: list[deque[float]] = [deque(maxlen=probe.window) for probe in probes]
        self._is_in_answer = False

    def add(self, logits: Sequence[float]) -> tuple[Reading, ...]:
        """P(trustworthy) by each probe, once one more token's logits are there; the logit of a mean is their mean.

        The first token is drawn from the prompt's last one.
        """
        for probe, latest, logit in zip(self._probes, self._latest, logits, strict=True):
            if self._is_in_answer or not probe.reads_answers:
                latest.append(logit)
        self._is_in_answer = True
        return tuple(
            0.5 * (1 + math.tanh(sum(latest) / len(latest) / 2)) if latest else None for latest in self._latest
        )


class LowReadings:
    """One answer's count, for each probe, of the latest tokens in a row that it has read below the threshold."""

    def __init__(self, condition: StopCondition, probes: int) -> None:
        self._condition = condition
        self._in_a_row = [0] * probes

    def add(self, readings: Sequence[Reading]) -> bool:
        """Count one token's readings; whether the answer has to end."""
        below = self._condition.probe_below
        self._in_a_row = [
            count + 1 if reading is not None and reading < below else 0
            for count, reading in zip(self._in_a_row, readings, strict=True)
        ]
        return max(self._in_a_row) >= self._condition.tokens
