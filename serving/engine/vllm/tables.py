"""Tables: vectors and probes by which hidden states are moved and read, as bytes that vLLM's workers keep by name.

Workers do what the slot engine does with them (``serving.model.interventions``, ``serving.model.monitoring``). A table
is named by its versions, which never change. Requests carry its name and, for every layer and phase, the parameters of
a token. Nothing here needs vLLM.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, Protocol

import torch
from safetensors.torch import load, save
from torch import Tensor

from serving.engine.base import GenerationRequest
from serving.model.interventions import LayerVectors, TokenParameters, token_parameters
from serving.model.monitoring import MonitorProbes
from serving.model.probe_matrices import ProbeMatrices
from serving.steering.bank import ServedVector
from serving.steering.monitor import Monitor
from serving.steering.plan import PHASES, Phase, SteeringPlan

CPU = torch.device("cpu")
KEPT = 32
"""Tables that workers keep though no request uses them."""


class WorkerTable(Protocol):
    @property
    def name(self) -> str: ...

    def to_bytes(self) -> bytes: ...


class VectorTable:
    """The vectors of a plan's interventions that depend on hidden states, with their probes."""

    def __init__(self, plan: SteeringPlan) -> None:
        self._plan = plan
        self.vectors: tuple[ServedVector, ...] = tuple(given.vector for given in plan.state_dependent)

    @property
    def name(self) -> str:
        return " ".join(("vectors", *(vector.reference for vector in self.vectors)))

    @cached_property
    def _by_layer(self) -> dict[int, LayerVectors]:
        layers = sorted({layer for vector in self.vectors for layer in vector.layers})
        return {layer: LayerVectors.from_vectors(self.vectors, layer, CPU) for layer in layers}

    def to_bytes(self) -> bytes:
        references = [vector.reference for vector in self.vectors]
        tensors: dict[str, Tensor] = {}
        for layer, of_layer in self._by_layer.items():
            tensors |= {
                f"{layer}/vectors": _numbers(references.index(reference) for reference in of_layer.references),
                f"{layer}/directions": of_layer.directions,
                f"{layer}/scales": of_layer.scales,
                f"{layer}/means": of_layer.means,
                f"{layer}/windows": _numbers(of_layer.windows.get(row, 1) for row in range(len(of_layer.references))),
                f"{layer}/lowest": _numbers(sorted(of_layer.lowest)),
                **_flat(of_layer.probes, f"{layer}/"),
            }
        return save(tensors)

    def parameters(self) -> list[tuple[int, str, list[list[float]]]]:
        """Of a token of each phase at each layer, where it has any."""
        found = [
            (layer, phase, token_parameters(self._plan, of_layer, phase))
            for layer, of_layer in self._by_layer.items()
            for phase in PHASES
        ]
        return [(layer, phase, table.tolist()) for layer, phase, table in found if table is not None]


class ProbeTable:
    """The probes of a monitor."""

    def __init__(self, monitor: Monitor) -> None:
        self._monitor = monitor

    @property
    def name(self) -> str:
        return " ".join(("probes", *self._monitor.references))

    def to_bytes(self) -> bytes:
        return save(_flat(MonitorProbes.from_monitor(self._monitor, CPU).matrices, ""))


def vectors_from(content: bytes, device: torch.device) -> dict[int, LayerVectors]:
    """By layer, the vectors of a ``VectorTable``; in place of their references stand their numbers in the plan."""
    tensors = load(content)
    layers = sorted({int(name.partition("/")[0]) for name in tensors})
    found = {}
    for layer in layers:
        held = {name.partition("/")[2]: tensor for name, tensor in tensors.items() if name.startswith(f"{layer}/")}
        windows = enumerate(held["windows"].tolist())
        found[layer] = LayerVectors(
            layer,
            tuple(map(str, held["vectors"].tolist())),
            held["directions"].to(device),
            held["scales"].to(device),
            held["means"].to(device),
            _matrices(held, device),
            {row: window for row, window in windows if window > 1},
            frozenset(held["lowest"].tolist()),
        )
    return found


def probes_from(content: bytes, device: torch.device) -> MonitorProbes:
    """The probes of a ``ProbeTable``; in place of their references stand their numbers in the monitor."""
    matrices = _matrices(load(content), device)
    count = sum(len(numbers) for numbers, _, _ in matrices.values())
    return MonitorProbes(tuple(map(str, range(count))), matrices, device)


def parameters_from(carried: Sequence[Sequence[Any]], device: torch.device) -> dict[tuple[int, Phase], TokenParameters]:
    return {(layer, phase): torch.tensor(values, device=device) for layer, phase, values in carried}


def tables_of(request: GenerationRequest) -> tuple[list[WorkerTable], dict[str, Any]]:
    """The tables that a request needs, and what it carries of them."""
    tables: list[WorkerTable] = []
    carried: dict[str, Any] = {}
    if request.plan.state_dependent:
        vectors = VectorTable(request.plan)
        tables.append(vectors)
        carried |= {"vectors": vectors.name, "parameters": vectors.parameters()}
    if request.monitor is not None:
        probes = ProbeTable(request.monitor)
        tables.append(probes)
        carried |= {"probes": probes.name}
    return tables, carried


class TableLoans:
    """The tables that workers hold, and how many requests use each. Every method belongs to one event loop.

    ``tell`` gives workers a table, and the names of those that they may forget.
    """

    def __init__(self, tell: Callable[[WorkerTable, Sequence[str]], Awaitable[None]]) -> None:
        self._tell = tell
        self._turn = asyncio.Lock()
        self._held: list[str] = []
        """Those used latest last."""
        self._users: dict[str, int] = {}

    async def take(self, table: WorkerTable) -> None:
        """Have the workers hold a table before any request that uses it. Each ``take`` needs a ``give_back``."""
        name = table.name
        self._users[name] = self._users.get(name, 0) + 1
        try:
            async with self._turn:
                if name not in self._held:
                    await self._told(table)
        except BaseException:
            self.give_back(table)
            raise
        self._held.remove(name)
        self._held.append(name)

    def give_back(self, table: WorkerTable) -> None:
        self._users[table.name] -= 1
        if not self._users[table.name]:
            del self._users[table.name]

    async def _told(self, table: WorkerTable) -> None:
        unused = [name for name in self._held if name not in self._users]
        forgotten = unused[: max(0, len(unused) - KEPT)]
        self._held = [name for name in self._held if name not in forgotten]
        await asyncio.shield(self._tell(table, forgotten))
        self._held.append(table.name)


def _flat(matrices: ProbeMatrices, prefix: str) -> dict[str, Tensor]:
    parts = ("numbers", "weights", "bias")
    return {
        f"{prefix}probes/{layer}/{part}": tensor.contiguous()
        for layer, of_layer in matrices.items()
        for part, tensor in zip(parts, of_layer, strict=True)
    }


def _matrices(tensors: Mapping[str, Tensor], device: torch.device) -> ProbeMatrices:
    layers = sorted({int(name.split("/")[1]) for name in tensors if name.startswith("probes/")})
    return {
        layer: (
            tensors[f"probes/{layer}/numbers"].to(device),
            tensors[f"probes/{layer}/weights"].to(device),
            tensors[f"probes/{layer}/bias"].to(device),
        )
        for layer in layers
    }


def _numbers(numbers: Any) -> Tensor:
    return torch.tensor(list(numbers), dtype=torch.int64)
