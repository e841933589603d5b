"""Tables that workers keep: they hold what the slot engine has, and are told once and kept while anybody uses them."""

import asyncio

import pytest
import torch

from serving.engine.vllm import tables
from serving.engine.vllm.tables import (
    ProbeTable,
    TableLoans,
    VectorTable,
    parameters_from,
    probes_from,
    tables_of,
    vectors_from,
)
from serving.model.interventions import LayerVectors, token_parameters
from serving.model.monitoring import MonitorProbes
from serving.steering.bank import SteeringBank
from serving.steering.monitor import Monitor
from serving.steering.plan import PHASES
from tests.mutants import mutant
from tests.probe_qualities import GOOD
from tests.serving.engine.small_models import add, facts, plan, project, request, served_vector

CPU = torch.device("cpu")
BANK = SteeringBank(
    facts(),
    (
        served_vector("toxicity", 0, seed=1, mean=0.5),
        served_vector("privacy", 1, seed=2, mean=-1.0, probe=0),
        served_vector("safety", (1, 2), seed=6, scale=2.0, probe=1, window=3, quality=GOOD),
    ),
)
STEERED = plan(
    BANK, [add(BANK, 2, 2.0, below=0.4), project(BANK, 1, 1.5, -3.0, 2.0, "at_least", prompt="all", below=0.7)]
)


def assert_alike(found, expected):
    assert found.keys() == expected.keys()
    for layer, tensors in found.items():
        for tensor, other in zip(tensors, expected[layer], strict=True):
            torch.testing.assert_close(tensor, other, rtol=0, atol=0)


def test_vectors_arrive_as_the_slot_engine_has_them():
    table = VectorTable(STEERED)
    found = vectors_from(table.to_bytes(), CPU)
    expected = {layer: LayerVectors.from_vectors(table.vectors, layer, CPU) for layer in (1, 2)}
    assert found.keys() == expected.keys()
    for layer, vectors in found.items():
        others = expected[layer]
        named = tuple(table.vectors[int(number)].reference for number in vectors.references)
        assert (named, vectors.windows, vectors.lowest) == (others.references, others.windows, others.lowest)
        for name in ("directions", "scales", "means"):
            torch.testing.assert_close(getattr(vectors, name), getattr(others, name), rtol=0, atol=0)
        assert_alike(vectors.probes, others.probes)
    assert expected[1].windows == {1: 3} and expected[2].lowest == frozenset()


def test_parameters_arrive_for_each_layer_and_phase():
    table = VectorTable(STEERED)
    found = parameters_from(table.parameters(), CPU)
    vectors = {layer: LayerVectors.from_vectors(table.vectors, layer, CPU) for layer in (1, 2)}
    expected = {
        (layer, phase): given
        for layer in vectors
        for phase in PHASES
        if (given := token_parameters(STEERED, vectors[layer], phase)) is not None
    }
    assert found.keys() == expected.keys() == {(1, phase) for phase in PHASES} | {(2, "last_prompt"), (2, "generation")}
    for key, given in found.items():
        torch.testing.assert_close(given, expected[key], rtol=0, atol=0)


def test_probes_arrive_with_their_columns():
    monitor = Monitor((BANK.vectors[2], BANK.vectors[1]))
    found = probes_from(ProbeTable(monitor).to_bytes(), CPU)
    assert found.references == ("0", "1")
    assert_alike(found.matrices, MonitorProbes.from_monitor(monitor, CPU).matrices)


def test_a_request_names_the_tables_that_it_needs():
    plain = request([1, 2], (1.0,), BANK)
    assert tables_of(plain) == ([], {})
    needed, carried = tables_of(type(plain)((1,), plain.sampling, STEERED, Monitor((BANK.vectors[1],))))
    assert [table.name for table in needed] == [carried["vectors"], carried["probes"]]
    assert carried["vectors"] == "vectors steer.small.privacy/1 steer.small.safety/1"
    assert carried["probes"] == "probes steer.small.privacy/1"


class Workers:
    def __init__(self, failures=0):
        self.told, self.forgotten, self.failures = [], [], failures

    async def tell(self, table, forgotten):
        await asyncio.sleep(0)
        if self.failures:
            self.failures -= 1
            raise RuntimeError("the workers do not answer")
        self.told.append(table.name)
        self.forgotten += forgotten


def probe_table(number):
    return ProbeTable(Monitor((served_vector("privacy", 1, version=str(number), probe=0),)))


async def told(times, in_use=False, module=tables):
    """What workers are told by so many requests one after another, each with a table of its own, and once more the
    first."""
    workers = Workers()
    loans = module.TableLoans(workers.tell)
    for number in (*range(1, times + 1), 1):
        await loans.take(probe_table(number))
        if not in_use:
            loans.give_back(probe_table(number))
    return workers


def test_tables_are_told_once_while_they_are_kept():
    workers = asyncio.run(told(tables.KEPT))
    assert len(workers.told) == len(set(workers.told)) == tables.KEPT
    assert workers.forgotten == []


def test_tables_that_nobody_uses_are_forgotten():
    workers = asyncio.run(told(tables.KEPT + 2))
    first = probe_table(1).name
    assert workers.told.count(first) == 2
    assert workers.forgotten[0] == first and len(workers.forgotten) == 2


def test_tables_in_use_are_kept_however_many():
    workers = asyncio.run(told(tables.KEPT + 5, in_use=True))
    assert workers.forgotten == [] and len(workers.told) == tables.KEPT + 5
    with mutant(tables, "if name not in self._users]", "]") as careless:
        assert asyncio.run(told(tables.KEPT + 5, True, careless)).forgotten


def test_requests_together_tell_a_table_once():
    async def run():
        workers = Workers()
        loans = TableLoans(workers.tell)
        await asyncio.gather(*(loans.take(probe_table(1)) for _ in range(4)))
        return workers.told

    assert asyncio.run(run()) == [probe_table(1).name]


@pytest.mark.parametrize("cancelled", [False, True])
def test_a_table_whose_telling_failed_is_told_again(cancelled):
    async def run():
        workers = Workers(failures=not cancelled)
        loans = TableLoans(workers.tell)
        first = asyncio.create_task(loans.take(probe_table(1)))
        await asyncio.sleep(0)
        if cancelled:
            first.cancel()
        with pytest.raises(asyncio.CancelledError if cancelled else RuntimeError):
            await first
        await asyncio.wait_for(loans.take(probe_table(1)), 1)
        return workers.told, loans._users

    told, users = asyncio.run(run())
    assert told[-1] == probe_table(1).name
    assert users == {probe_table(1).name: 1}
