"""Reports: what vLLM's workers have moved and read of the requests that run, fetched once for all who wait.

Workers keep what a step has moved and read until they are asked. A token is reported after its step has run, so what
belongs to a token that has arrived is there.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from serving.engine.base import EngineStopped

Fetched = Mapping[str, Mapping[str, Any]]
"""Of one worker, by request: ``StepStates.taken``."""


@dataclass
class Report:
    """Of one request, by position in prompt and answer."""

    readings: dict[int, tuple[float, ...]] = field(default_factory=dict)
    """The logits of its monitor's probes."""
    moved: dict[int, set[int]] = field(default_factory=dict)
    """By vector, by its number in the plan: the positions that it moved."""


class StepReports:
    """Every method belongs to one event loop; ``fetch`` asks the workers, which forget what they told."""

    def __init__(self, fetch: Callable[[], Awaitable[Sequence[Fetched]]]) -> None:
        self._fetch = fetch
        self._turn = asyncio.Lock()
        self._reports: dict[str, Report] = {}

    def open(self, key: str) -> None:
        """Keep what is told of this request, until ``close``."""
        self._reports[key] = Report()

    def close(self, key: str) -> None:
        del self._reports[key]

    async def readings(self, key: str, position: int) -> tuple[float, ...]:
        """What the request's probes said at the token that was read at ``position``."""
        report = self._reports[key]
        async with self._turn:
            if position not in report.readings:
                await asyncio.shield(self._update())
        if position not in report.readings:
            raise EngineStopped("vLLM's workers read no hidden states; run it with enforce_eager")
        return report.readings[position]

    async def moved(self, key: str) -> Mapping[int, set[int]]:
        """The positions that each vector has moved so far."""
        async with self._turn:
            await asyncio.shield(self._update())
        return self._reports[key].moved

    async def _update(self) -> None:
        """To its end, whoever waits for it: what workers have told they do not tell again."""
        for of_worker in await self._fetch():
            for key, told in of_worker.items():
                report = self._reports.get(key)
                if report is None:  # it has ended
                    continue
                report.readings.update((position, tuple(logits)) for position, logits in told["readings"])
                for vector, positions in told["moved"].items():
                    report.moved.setdefault(int(vector), set()).update(positions)
