"""Low-rank adapters (LoRA, Hu et al. 2021): fine-tuning that changes each matrix by a product of two thin ones."""

import math

import torch
from torch import Tensor, nn

from registry.errors import Mismatch
from serving.model.residual_stream import decoder_blocks


class Adapted(nn.Module):
    """A frozen linear map plus ``scale * up @ down``, which starts at zero."""

    def __init__(self, linear: nn.Linear, rank: int, scale: float) -> None:
        super().__init__()
        self.linear, self.scale = linear, scale
        self.down = nn.Parameter(torch.empty(rank, linear.in_features))
        self.up = nn.Parameter(torch.zeros(linear.out_features, rank))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def forward(self, states: Tensor) -> Tensor:
        adapted: Tensor = self.linear(states) + self.scale * ((states @ self.down.T) @ self.up.T)
        return adapted

    def merged(self) -> nn.Linear:
        """The linear map alone, with the product added to its weights."""
        with torch.no_grad():
            self.linear.weight += (self.scale * self.up @ self.down).to(self.linear.weight.dtype)
        return self.linear


def adapt(network: nn.Module, *, rank: int, alpha: float, seed: int) -> list[nn.Parameter]:
    """Freeze ``network`` and put an adapter on every linear map of its decoder blocks; returns what is to be trained.

    Raises ``Mismatch`` for a network whose blocks hold no linear maps.
    """
    network.requires_grad_(False)
    places = _linear_maps(network)
    if not places:
        raise Mismatch(f"the blocks of {type(network).__name__} hold no linear maps to adapt; use method=full")
    trained: list[nn.Parameter] = []
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for parent, name in places:
            adapted = Adapted(getattr(parent, name), rank, alpha / rank)
            setattr(parent, name, adapted)
            trained += [adapted.down, adapted.up]
    return trained


def merge(network: nn.Module) -> None:
    """Add every adapter to the weights below it and take it off: the network is of its own kind again."""
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, Adapted):
                setattr(parent, name, child.merged())


def _linear_maps(network: nn.Module) -> list[tuple[nn.Module, str]]:
    return [
        (parent, name)
        for parent in decoder_blocks(network).modules()
        for name, child in parent.named_children()
        if isinstance(child, nn.Linear)
    ]
