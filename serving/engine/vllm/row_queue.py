"""Row queue: requests that wait for rows of the workers' directions, served in the order in which they came."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from serving.engine.vllm.rows import DirectionRows
from serving.steering.bank import ServedVector
from serving.steering.plan import SteeringPlan

Placed = tuple[int, ServedVector, int]
"""A row, and the vector and layer whose direction it holds."""


class RowQueue:
    """Lends rows. Every method belongs to one event loop; ``tell`` puts directions into the workers' rows."""

    def __init__(self, rows: DirectionRows, tell: Callable[[Sequence[Placed]], Awaitable[None]]) -> None:
        self._rows, self._tell = rows, tell
        self._turn, self._freed = asyncio.Lock(), asyncio.Event()

    async def take(self, plan: SteeringPlan) -> list[int]:
        """Rows for the plan's vectors, told to the workers before any request that uses them.

        Nobody who waits is passed: else requests whose rows are held already would keep them for as long as they come.
        """
        async with self._turn:
            while (taken := self._rows.take(plan)) is None:
                self._freed.clear()
                await self._freed.wait()
            rows, told = taken
            if told:
                await self._told(rows, told)
            return rows

    def give_back(self, rows: Sequence[int]) -> None:
        """Without waiting for anything, so that a request that is cancelled gives back what it took."""
        self._rows.give_back(rows)
        self._freed.set()

    async def _told(self, rows: Sequence[int], told: Sequence[Placed]) -> None:
        try:
            await asyncio.shield(self._tell(told))
        except BaseException:  # whether the workers were told is not known, so they are told again
            self._rows.forget(row for row, _, _ in told)
            self.give_back(rows)
            raise
