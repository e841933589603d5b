"""Requests take rows in the order in which they came, and what one of them leaves is the next one's."""

import asyncio

import pytest

from serving.engine.vllm import row_queue
from serving.engine.vllm.row_queue import RowQueue
from serving.engine.vllm.rows import DirectionRows
from serving.steering.bank import SteeringBank
from tests.mutants import mutant
from tests.serving.engine.small_models import facts, plan, served_vector

BANK = SteeringBank(
    facts(), tuple(served_vector(name, 0, seed=seed) for seed, name in enumerate(("toxicity", "privacy", "fairness")))
)
TOXICITY, TOXICITY_TOO, BOTH_OTHERS = (plan(BANK, strengths) for strengths in ([1.0], [0.5], [0.0, 1.0, 1.0]))


class Workers:
    """What the workers are told, which takes a moment, or fails."""

    def __init__(self, failures=0):
        self.told, self.failures = [], failures

    async def tell(self, placed):
        await asyncio.sleep(0)
        if self.failures:
            self.failures -= 1
            raise RuntimeError("the workers do not answer")
        self.told += [vector.dimension for _, vector, _ in placed]


async def settle():
    for _ in range(10):
        await asyncio.sleep(0)


async def order_of_taking(module=row_queue):
    """Of two rows one is held: then one request comes that needs both, and one whose row is the one that is held."""
    queue, order = module.RowQueue(DirectionRows(2), Workers().tell), []

    async def use(name, wanted):
        rows = await queue.take(wanted)
        order.append(name)
        await settle()
        queue.give_back(rows)

    held = await queue.take(TOXICITY)
    using = [asyncio.create_task(use(*given)) for given in (("both", BOTH_OTHERS), ("held", TOXICITY_TOO))]
    await settle()
    queue.give_back(held)
    await asyncio.wait_for(asyncio.gather(*using), 5)
    return order


def test_nobody_passes_who_waits_for_rows():
    assert asyncio.run(order_of_taking()) == ["both", "held"]


def test_without_turns_a_held_row_would_be_taken_again():
    with mutant(row_queue, "async with self._turn:", "if True:") as impatient:
        assert asyncio.run(order_of_taking(impatient)) == ["held", "both"]


def test_one_who_leaves_the_queue_holds_up_nobody():
    async def run():
        queue = RowQueue(DirectionRows(2), Workers().tell)
        await queue.take(TOXICITY)
        leaving = asyncio.create_task(queue.take(BOTH_OTHERS))
        later = asyncio.create_task(queue.take(TOXICITY_TOO))
        await settle()
        assert not later.done()
        leaving.cancel()
        return await asyncio.wait_for(later, 1)

    assert len(asyncio.run(run())) == 1


@pytest.mark.parametrize("cancelled", [False, True])
def test_rows_whose_telling_failed_are_free_and_told_again(cancelled):
    async def run():
        workers = Workers(failures=not cancelled)
        queue = RowQueue(DirectionRows(2), workers.tell)
        first = asyncio.create_task(queue.take(BOTH_OTHERS))
        await asyncio.sleep(0)
        if cancelled:
            first.cancel()
        with pytest.raises(asyncio.CancelledError if cancelled else RuntimeError):
            await first
        rows = await asyncio.wait_for(queue.take(BOTH_OTHERS), 1)
        return rows, workers.told

    rows, told = asyncio.run(run())
    assert sorted(rows) == [0, 1]
    assert told[-2:] == ["privacy", "fairness"]
