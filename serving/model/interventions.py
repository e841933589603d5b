"""Moves that depend on a token's own hidden states, carried out in the forward pass for many tokens at once.

After block ``l`` and the plain offsets, a token's hidden states ``h`` are moved along the vectors of layer ``l``:

1. ``h += strength * scale * direction``, where the vector's probe fires;
2. ``h += clip(target - z, low, high) * scale * direction``, where ``z = (h · direction - projection_mean) / scale``, so
   that the projection arrives at its target unless that is further away than the vector may move it.

A probe reads what its block left, before anything is added there. Vectors of one layer are each projected as if alone;
where their directions are not orthogonal, each moves the projections on the others too. The cost depends on the tokens
that are moved and the vectors of the layer, not on how many settings there are.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int64
from torch import Tensor, nn

from serving.model.residual_stream import recording, rewriting, steering
from serving.steering.bank import PHASES, Phase, SteeringBank, SteeringPlan, VectorTarget

Wanted = Float32[Tensor, "5 vectors"]
"""What a token wants of each vector: strength, target, low, high, and the logit below which its probe fires.

Strength 0, and low and high 0, move nothing; an infinite logit moves every token."""


@dataclass(frozen=True)
class LayerVectors:
    """The vectors of a bank that steer one layer, and their probes, as matrices of float32."""

    layer: int
    rows: tuple[int, ...]
    """Of the bank; one a row of every matrix here."""
    directions: Float32[Tensor, "vectors d_model"]
    scales: Float32[Tensor, " vectors"]
    means: Float32[Tensor, " vectors"]
    probes: Mapping[int, tuple[Int64[Tensor, " probes"], Float32[Tensor, "d_model probes"], Float32[Tensor, " probes"]]]
    """By the layer that they read: which vectors they belong to, their weights and biases."""

    @classmethod
    def of(cls, bank: SteeringBank, layer: int, device: torch.device) -> "LayerVectors":
        rows = tuple(row for row, live in enumerate(bank.vectors) if live.layer == layer)
        vectors = [bank.vectors[row].vector for row in rows]
        usable = [(place, bank.vectors[row].probe) for place, row in enumerate(rows)]
        readable = [(place, probe) for place, probe in usable if probe is not None and probe.layer <= layer]
        probes = {}
        for read in sorted({probe.layer for _, probe in readable}):
            here = [(place, probe) for place, probe in readable if probe.layer == read]
            weights = torch.from_numpy(np.stack([probe.weights for _, probe in here], axis=1))
            bias = torch.tensor([probe.bias for _, probe in here])
            places = torch.tensor([place for place, _ in here])
            probes[read] = places.to(device), weights.to(device), bias.to(device)
        return cls(
            layer,
            rows,
            torch.from_numpy(np.stack([one.direction for one in vectors])).to(device),
            torch.tensor([one.scale for one in vectors], device=device),
            torch.tensor([one.projection_mean for one in vectors], device=device),
            probes,
        )


def wanted(plan: SteeringPlan, vectors: LayerVectors, phase: Phase) -> Wanted | None:
    """What a token of this phase wants of the vectors of one layer; ``None`` where it wants nothing."""
    table = np.zeros((5, len(vectors.rows)), np.float32)
    table[4] = np.inf
    used = [move for move in plan.moves if move.row in vectors.rows and move.phases[PHASES.index(phase)]]
    for move in used:
        place = vectors.rows.index(move.row)
        if isinstance(move, VectorTarget):
            table[1:4, place] = move.target, *move.moves
        else:
            table[0, place] = move.strength
        if move.below is not None and move.below < 1:
            table[4, place] = math.log(move.below / (1 - move.below))
    return torch.from_numpy(table).to(vectors.directions.device) if used else None


class LayerMoves:
    """The moves of one forward pass at one layer, for the tokens that want any."""

    def __init__(self, vectors: LayerVectors, tokens: Sequence[int], wanted: Sequence[Wanted]) -> None:
        self.vectors, self.tokens = vectors, tokens
        self._places = torch.tensor(tokens, device=vectors.directions.device)
        self._strength, self._target, self._low, self._high, self._below = torch.stack(list(wanted), dim=1)
        self._fires: Bool[Tensor, "tokens vectors"] = self._below == math.inf
        self.moved: Bool[Tensor, "tokens vectors"] = torch.zeros_like(self._fires)
        """Once the layer has run: which vectors moved which tokens."""

    def read(self, layer: int, states: Float32[Tensor, "1 all d_model"]) -> None:
        """Ask the probes that read ``layer``."""
        places, weights, bias = self.vectors.probes[layer]
        logits = states[0, self._places].float() @ weights + bias
        self._fires[:, places] = logits < self._below[:, places]

    def move(self, states: Float32[Tensor, "1 all d_model"]) -> Float32[Tensor, "1 all d_model"]:
        """The states with these tokens moved; those of other tokens, and of tokens that nothing moves, bit by bit."""
        vectors, own = self.vectors, states[0, self._places].float()
        strength = self._strength * self._fires
        found = own + (strength * vectors.scales) @ vectors.directions
        place = (found @ vectors.directions.T - vectors.means) / vectors.scales
        shift = (self._target - place).clamp(self._low, self._high) * self._fires
        found = found + (shift * vectors.scales) @ vectors.directions
        self.moved = (strength != 0) | (shift != 0)
        found = torch.where(self.moved.any(-1, keepdim=True), found, own)
        return states.index_copy(1, self._places, found.to(states.dtype)[None])


@contextmanager
def moving(network: nn.Module, offsets: Mapping[int, Tensor], moves: Sequence[LayerMoves]) -> Iterator[None]:
    """While open, every forward pass of ``network`` adds ``offsets`` as ``steering`` does, then carries out ``moves``.

    A pass holds one sequence, ``[1, tokens, d_model]``.
    """
    if not moves:
        with steering(network, offsets):
            yield
        return

    def read(layer: int, states: Tensor) -> None:
        for one in moves:
            if layer in one.vectors.probes:
                one.read(layer, states)

    def move(layer: int, states: Tensor) -> Tensor:
        for one in moves:
            if one.vectors.layer == layer:
                states = one.move(states)
        return states

    probed = sorted({layer for one in moves for layer in one.vectors.probes})
    moved = sorted({one.vectors.layer for one in moves})
    with recording(network, probed, read), steering(network, offsets), rewriting(network, moved, move):
        yield
