"""Monitoring: probes that read some tokens of a forward pass, beside the steering of the pass."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float32
from torch import Tensor, nn

from serving.model.probe_matrices import ProbeMatrices, probe_matrices
from serving.model.residual_stream import recording
from serving.steering.monitor import Monitor


@dataclass(frozen=True, eq=False)
class MonitorProbes:
    """The probes of one or more equal monitors."""

    references: tuple[str, ...]
    matrices: ProbeMatrices
    device: torch.device

    @classmethod
    def from_monitor(cls, monitor: Monitor, device: torch.device) -> "MonitorProbes":
        return cls(monitor.references, probe_matrices(list(enumerate(monitor.probes)), device), device)


class ProbeReading:
    """What one monitor's probes read at some tokens of a forward pass."""

    def __init__(self, probes: MonitorProbes, tokens: Sequence[int], rows: Sequence[int]) -> None:
        """``tokens`` are positions in the pass; ``rows`` are numbers by which the caller knows them."""
        self.probes, self.rows = probes, rows
        self._positions = torch.tensor(tokens, device=probes.device)
        self._logits: Float32[Tensor, "tokens probes"] = torch.zeros(
            len(tokens), len(probes.references), device=probes.device
        )

    def read(self, layer: int, states: Float32[Tensor, "1 all d_model"]) -> None:
        numbers, weights, bias = self.probes.matrices[layer]
        self._logits[:, numbers] = states[0, self._positions].float() @ weights + bias

    def logits(self) -> list[tuple[int, tuple[float, ...]]]:
        """Once the pass has run: by row, what each probe says of the token's hidden state by itself."""
        return [(row, tuple(of_token)) for row, of_token in zip(self.rows, self._logits.tolist(), strict=True)]


@contextmanager
def monitoring(network: nn.Module, readings: Sequence[ProbeReading]) -> Iterator[None]:
    """While open, every forward pass of ``network`` is read. Open it before ``intervening``, which it reads ahead of.

    A pass holds ``[1, tokens, d_model]``.
    """

    def read(layer: int, states: Tensor) -> None:
        for reading in readings:
            if layer in reading.probes.matrices:
                reading.read(layer, states)

    layers = sorted({layer for reading in readings for layer in reading.probes.matrices})
    with recording(network, layers, read):
        yield
