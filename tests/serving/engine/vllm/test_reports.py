"""Reports of workers: fetched once for all who wait, and lost by nobody who leaves."""

import asyncio

import pytest

from serving.engine.base import EngineStopped
from serving.engine.vllm.reports import StepReports


class Worker:
    """Tells what it has read once, and takes a moment for it."""

    def __init__(self, **reports):
        self.reports, self.asked = reports, 0

    async def fetch(self):
        self.asked += 1
        told, self.reports = self.reports, {}
        await asyncio.sleep(0.01)
        return [told, told]  # two workers of one layer tell the same


def report(readings=(), **moved):
    return {"readings": list(readings), "moved": moved}


def test_one_fetch_serves_all_who_wait():
    async def run():
        worker = Worker(a=report([(3, [0.5]), (4, [0.6])]), b=report([(0, [1.0, 2.0])]), gone=report([(9, [0.0])]))
        reports = StepReports(worker.fetch)
        reports.open("a")
        reports.open("b")
        found = await asyncio.gather(
            reports.readings("a", 3), reports.readings("b", 0), reports.readings("a", 4), reports.readings("a", 3)
        )
        return found, worker.asked

    assert asyncio.run(run()) == ([(0.5,), (1.0, 2.0), (0.6,), (0.5,)], 1)


def test_what_is_told_to_one_who_leaves_is_kept():
    async def run():
        reports = StepReports(Worker(b=report([(0, [2.0])])).fetch)
        reports.open("a")
        reports.open("b")
        leaving = asyncio.create_task(reports.readings("a", 0))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        leaving.cancel()
        return await reports.readings("b", 0)

    assert asyncio.run(run()) == (2.0,)


def test_a_reading_that_never_comes_is_an_error():
    async def run():
        reports = StepReports(Worker().fetch)
        reports.open("a")
        await reports.readings("a", 0)

    with pytest.raises(EngineStopped, match="run it with enforce_eager"):
        asyncio.run(run())


def test_moved_positions_add_up_over_fetches():
    async def run():
        worker = Worker(a=report(**{"0": [1, 2], "2": [2]}))
        reports = StepReports(worker.fetch)
        reports.open("a")
        await reports.moved("a")
        worker.reports = {"a": report(**{"0": [2, 5]})}
        moved = await reports.moved("a")
        reports.close("a")
        return moved

    assert asyncio.run(run()) == {0: {1, 2, 5}, 2: {2}}
