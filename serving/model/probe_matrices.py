"""Probe matrices: linear probes on the model's device, those of one layer side by side."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from registry.vectors import LinearProbe

ProbeMatrices = Mapping[
    int, tuple[Int64[Tensor, " probes"], Float32[Tensor, "d_model probes"], Float32[Tensor, " probes"]]
]
"""By the layer that they read: the numbers of the probes, their weights and biases."""


def probe_matrices(probes: Sequence[tuple[int, LinearProbe]], device: torch.device) -> ProbeMatrices:
    """Of probes with their numbers."""
    matrices = {}
    for layer in sorted({probe.layer for _, probe in probes}):
        numbers, of_layer = zip(*((number, probe) for number, probe in probes if probe.layer == layer), strict=True)
        weights = torch.from_numpy(np.stack([probe.weights for probe in of_layer], axis=1))
        bias = torch.tensor([probe.bias for probe in of_layer])
        matrices[layer] = torch.tensor(numbers).to(device), weights.to(device), bias.to(device)
    return matrices
