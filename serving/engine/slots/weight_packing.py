"""Weights of linear layers laid out for oneDNN once; torch would lay them out anew in every call.

On a CPU in bfloat16 that takes a third off a step. The results are the same to the bit.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

ROWS = 16
"""A hint to oneDNN; the layout serves any number of rows."""


@contextmanager
def packed(network: nn.Module) -> Iterator[None]:
    """While open, the bfloat16 linear layers of ``network`` on the CPU compute with packed weights.

    No weight is in memory twice: the plain one is empty meanwhile, unless it is tied to another module, and comes back
    on leaving. Layers on other devices or in other types, and machines without oneDNN, are left alone.
    """
    layers = [module for module in network.modules() if type(module) is nn.Linear and _can_be_packed(module.weight)]
    owners = Counter(id(weight) for _, weight in network.named_parameters(remove_duplicate=False))
    lone = {layer for layer in layers if owners[id(layer.weight)] == 1}
    weights: dict[nn.Linear, Tensor] = {}
    try:
        for layer in layers:
            weights[layer] = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach(), ROWS)
            layer.forward = _linear(weights[layer], layer.bias)  # type: ignore[method-assign, assignment]
            if layer in lone:
                layer.weight.data = layer.weight.new_empty(0)
        yield
    finally:
        for layer, weight in weights.items():  # fewer than all where packing itself failed
            if layer in lone:
                layer.weight.data = weight.to_dense()
            del layer.forward


def _can_be_packed(weight: Tensor) -> bool:
    fits = weight.device.type == "cpu" and weight.dtype == torch.bfloat16 and weight.ndim == 2
    available = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return fits and available and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def _linear(weight: Tensor, bias: Tensor | None) -> Callable[[Tensor], Tensor]:
    compute = torch.ops.mkldnn._linear_pointwise

    def forward(states: Tensor) -> Tensor:
        result: Tensor = compute(states, weight, bias, "none", [], "")
        return result

    return forward
