"""Workspaces: memory in which a thread computes again and again, for fresh memory costs several times the sums."""

import math
import threading
from collections.abc import Sequence

import torch
from jaxtyping import Float32
from torch import Tensor

MOST_KEPT = 1 << 22
"""Numbers: 16 MiB."""


class Workspace(threading.local):
    """Room for one tensor of float32 in each thread. What is given holds anything, and is the thread's until the next
    is asked for.
    """

    def __init__(self) -> None:
        self._kept = torch.empty(0)

    def of(self, shape: Sequence[int], device: torch.device) -> Float32[Tensor, "..."]:
        """Kept on a CPU, up to ``MOST_KEPT``."""
        size = math.prod(shape)
        if device.type != "cpu" or size > MOST_KEPT:
            return torch.empty(shape, device=device)
        if self._kept.numel() < size:
            with torch.inference_mode(mode=False):  # so that it can be changed inside of that mode and outside
                self._kept = torch.empty(size)
        return self._kept[:size].view(shape)
