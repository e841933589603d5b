"""Interventions that depend on a token's own hidden states, carried out in the forward pass for many tokens at once.

After block ``l`` and the plain offsets, a token's hidden states ``h`` are moved along the vectors of layer ``l``:

1. ``h += strength * scale * direction``, where the vector's probe fires;
2. ``h += clip(target - z, low, high) * scale * direction``, where ``z = (h · direction - projection_mean) / scale``, so
   that the projection arrives at its target unless that is further away than the vector may move it.

A probe reads the states that its block left, before anything is added there; one of answers the mean over the latest
of the answer's tokens, and none of the prompt's. Vectors of one layer are each projected as
if alone; where their directions are not orthogonal, each moves the projections on the others too. A vector of several
layers does so at each of them, by the one reading of its probe. The cost depends on the tokens that are moved and the
vectors of the layer, not on how many settings there are.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float32
from torch import Tensor, nn

from serving.model.probe_matrices import ProbeMatrices, probe_matrices
from serving.model.residual_stream import recording, rewriting, steering
from serving.steering.bank import ServedVector, SteeringBank
from serving.steering.plan import Intervention, Phase, Project, SteeringPlan

TokenParameters = Float32[Tensor, "5 vectors"]
"""One token's strength, target, low, high, and the logit below which the probe fires, for each vector of a layer.

Strength 0, and low and high 0, move nothing; an infinite logit moves every token."""

LogitsBefore = Float32[Tensor, "2 vectors"]
"""Of one token: the sum of the logits that each probe's window still holds of the tokens before it, and how many."""


@dataclass(frozen=True)
class LayerVectors:
    """Vectors that steer one layer, and their probes, as matrices of float32."""

    layer: int
    references: tuple[str, ...]
    """The vector of each row of the matrices."""
    directions: Float32[Tensor, "vectors d_model"]
    scales: Float32[Tensor, " vectors"]
    means: Float32[Tensor, " vectors"]
    probes: ProbeMatrices
    """Numbered by the rows of their vectors."""
    windows: Mapping[int, int]
    """By row, of the probes that read several tokens at once: how many."""
    lowest: frozenset[int]
    """The rows of vectors that steer no lower layer."""

    @property
    def remembered(self) -> list[int]:
        """The rows whose logits the windows of later tokens hold.

        A vector of several layers has one probe, which is remembered at the lowest of them.
        """
        return sorted(self.lowest & self.windows.keys())

    @classmethod
    def from_bank(cls, bank: SteeringBank, layer: int, device: torch.device) -> "LayerVectors":
        return cls.from_vectors(bank.vectors, layer, device)

    @classmethod
    def from_vectors(cls, vectors: Sequence[ServedVector], layer: int, device: torch.device) -> "LayerVectors":
        """Of those among ``vectors`` that steer ``layer``, in their order."""
        served = [vector for vector in vectors if layer in vector.layers]
        directions = [vector.vector.at(layer) for vector in served]
        readable = [
            (row, vector.reader)
            for row, vector in enumerate(served)
            if vector.reader is not None and vector.reader.layer <= layer
        ]
        return cls(
            layer,
            tuple(vector.reference for vector in served),
            torch.from_numpy(np.stack([direction.unit for direction in directions])).to(device),
            torch.tensor([direction.scale for direction in directions], device=device),
            torch.tensor([direction.projection_mean for direction in directions], device=device),
            probe_matrices(readable, device),
            {row: probe.window for row, probe in readable if probe.window > 1},
            frozenset(row for row, vector in enumerate(served) if vector.layers[0] == layer),
        )


def token_parameters(plan: SteeringPlan, vectors: LayerVectors, phase: Phase) -> TokenParameters | None:
    """The parameters of a token of this phase at one layer; ``None`` where nothing depends on its hidden states."""
    table = np.zeros((5, len(vectors.references)), np.float32)
    table[4] = np.inf
    acting = [
        intervention
        for intervention in plan.state_dependent
        if intervention.vector.reference in vectors.references and intervention.scope.includes(phase)
    ]
    for intervention in acting:
        row = vectors.references.index(intervention.vector.reference)
        if isinstance(intervention, Project):
            table[1:4, row] = intervention.target, *intervention.shifts
        else:
            table[0, row] = intervention.strength
        table[4, row] = _fires_below(intervention, phase)
    return torch.from_numpy(table).to(vectors.directions.device) if acting else None


def _fires_below(intervention: Intervention, phase: Phase) -> float:
    """A probe of answers fires at no token of a prompt."""
    if intervention.condition is None:
        return math.inf
    reads = phase == "generation" or not intervention.vector.require_probe().reads_answers
    return intervention.condition.logit if reads else -math.inf


class LayerIntervention:
    """The interventions of one forward pass at one layer, on the tokens that have any."""

    def __init__(
        self,
        vectors: LayerVectors,
        tokens: Sequence[int],
        parameters: Sequence[TokenParameters],
        before: Sequence[LogitsBefore] = (),
    ) -> None:
        """``tokens`` are positions in the pass, with the parameters of each, and what probes with a window read before
        them, where the bank has any.
        """
        self.vectors, self.tokens = vectors, tokens
        self._positions = torch.tensor(tokens, device=vectors.directions.device)
        self._strength, self._target, self._low, self._high, self._below = torch.stack(list(parameters), dim=1)
        self._fires: Bool[Tensor, "tokens vectors"] = self._below == math.inf
        self.moved: Bool[Tensor, "tokens vectors"] = torch.zeros_like(self._fires)
        """Once the layer has run: which vectors moved which tokens."""
        self._before = torch.stack(list(before)) if before else torch.zeros(0)
        self.logits: Float32[Tensor, "tokens vectors"] = torch.zeros_like(self._below)
        """Once their layers have run: what the probes say of each token by itself."""

    def read_probes(self, layer: int, states: Float32[Tensor, "1 all d_model"]) -> None:
        """Ask the probes that read ``layer``."""
        rows, weights, bias = self.vectors.probes[layer]
        logits = states[0, self._positions].float() @ weights + bias
        self.logits[:, rows] = logits
        if len(self._before):
            logits = (logits + self._before[:, 0, rows]) / (1 + self._before[:, 1, rows])
        self._fires[:, rows] = logits < self._below[:, rows]

    def apply(self, states: Float32[Tensor, "1 all d_model"]) -> Float32[Tensor, "1 all d_model"]:
        """The states with these tokens moved; those of other tokens, and of tokens that nothing moves, bit by bit."""
        vectors, before = self.vectors, states[0, self._positions].float()
        strength = self._strength * self._fires
        after = before + (strength * vectors.scales) @ vectors.directions
        projection = (after @ vectors.directions.T - vectors.means) / vectors.scales
        shift = (self._target - projection).clamp(self._low, self._high) * self._fires
        after = after + (shift * vectors.scales) @ vectors.directions
        self.moved = (strength != 0) | (shift != 0)
        after = torch.where(self.moved.any(-1, keepdim=True), after, before)
        return states.index_copy(1, self._positions, after.to(states.dtype)[None])


@contextmanager
def intervening(
    network: nn.Module, offsets: Mapping[int, Tensor], interventions: Sequence[LayerIntervention]
) -> Iterator[None]:
    """While open, every forward pass of ``network`` adds ``offsets`` as ``steering`` does, then applies interventions.

    A pass holds one sequence, ``[1, tokens, d_model]``.
    """
    if not interventions:
        with steering(network, offsets):
            yield
        return

    def read(layer: int, states: Tensor) -> None:
        for intervention in interventions:
            if layer in intervention.vectors.probes:
                intervention.read_probes(layer, states)

    def move(layer: int, states: Tensor) -> Tensor:
        for intervention in interventions:
            if intervention.vectors.layer == layer:
                states = intervention.apply(states)
        return states

    probed = sorted({layer for intervention in interventions for layer in intervention.vectors.probes})
    moved = sorted({intervention.vectors.layer for intervention in interventions})
    with recording(network, probed, read), steering(network, offsets), rewriting(network, moved, move):
        yield
