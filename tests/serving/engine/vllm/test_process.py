"""The arguments that vLLM is started with, and its end while it is asked; running it is tests/vllm."""

import asyncio
from types import SimpleNamespace

import pytest

from serving.engine.base import EngineStopped
from serving.engine.vllm import process as process_module
from serving.engine.vllm.process import OURS, own_arguments
from serving.engine.vllm.reports import StepReports
from serving.engine.vllm.row_queue import RowQueue
from serving.engine.vllm.rows import DirectionRows
from serving.engine.vllm.tables import ProbeTable, TableLoans
from serving.model.language_model import described
from serving.model.sources import find_series
from serving.model.weights import locate
from serving.steering.monitor import Monitor
from tests.hub_server import REPO
from tests.mutants import mutant
from tests.serving.engine.small_models import plan, served_vector, small_bank


def test_a_tokenizer_that_only_main_has_is_given(hub):
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (hub.repositories[REPO]["step10"] / name).unlink()
    series = find_series(REPO)
    without, whole = (own_arguments(described(series.at(step)), 32, 4, 2) for step in (10, 100))
    main = locate(series.select("main")[0]).directory
    assert without["model"] == str(locate(series.at(10)).directory)
    assert without["tokenizer"] == str(main)
    assert whole["tokenizer"] == whole["model"]
    assert set(whole) <= OURS


async def first_and_next_call(kind, module=process_module):
    """What two calls at once come to whose engine core dies: it answers none, and the handler of outputs ends."""

    async def never(*_, **__):
        await asyncio.Event().wait()

    handler = asyncio.create_task(asyncio.sleep(0.01))
    process = module.VllmProcess(SimpleNamespace(output_handler=handler, errored=False, collective_rpc=never), None)
    reports = StepReports(process.reports)
    reports.open("a")
    rows, tables = RowQueue(DirectionRows(1), process.put), TableLoans(process.learn)
    call = {
        "reports": lambda: reports.readings("a", 0),
        "put": lambda: rows.take(plan(small_bank(), [1.0])),
        "learn": lambda: tables.take(ProbeTable(Monitor((served_vector("privacy", 0, probe=0),)))),
        "facts": process.facts,
    }[kind]
    calls = [asyncio.create_task(call()) for _ in range(2)]
    done, waiting = await asyncio.wait(calls, timeout=1)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    return [task.exception() for task in calls if task in done]


@pytest.mark.parametrize("kind", ["reports", "put", "learn", "facts"])
def test_a_call_ends_when_vllm_does(kind):
    found = asyncio.run(first_and_next_call(kind))
    assert [type(error) for error in found] == [EngineStopped] * 2
    assert "has to be started again" in str(found[0])


def test_a_call_that_waits_for_its_answer_alone_hangs():
    with mutant(process_module, "for task in (call, handler) if", "for task in (call,) if") as trusting:
        assert asyncio.run(first_and_next_call("facts", trusting)) == []


def test_a_call_yields_what_the_workers_answer():
    async def run():
        async def answer(method, args):
            return [(method, *args)]

        handler = asyncio.create_task(asyncio.sleep(5))
        llm = SimpleNamespace(output_handler=handler, errored=False, collective_rpc=answer)
        found = await process_module.VllmProcess(llm, None).reports()
        handler.cancel()
        return found

    assert asyncio.run(run()) == [("steering_reports",)]
