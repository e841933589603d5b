"""Weights of linear layers laid out for oneDNN once; torch would lay them out anew in every call.

On a CPU in bfloat16 that takes a third off a step. Layers that multiply the same states, as query, key and value do,
are laid side by side and multiply them in one product, which takes off another tenth, and half the barriers between
threads. The results are the same to the bit. Weights of a quantised file may be kept in four bits too, for steps of few
tokens.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeGuard

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from serving.engine.slots.batch_invariance import StepRows, require_invariant
from serving.engine.slots.four_bit import FEW_ROWS, FourBitWeights
from serving.huge_pages import gather_memory

ROWS = 16
"""A hint to oneDNN; the layout serves any number of rows."""
MANY_BYTES = 2**26
"""Of weights that no cache holds, so that it matters in what pages they lie."""
SHARED_INPUT = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))
"""Names under which one block calls layers on the same states, in most families of transformers."""


@contextmanager
def packed(
    network: nn.Module, *, in_four_bits: bool = False, step: StepRows | None = None
) -> Iterator[Sequence["PackedProduct"]]:
    """While open, the bfloat16 linear layers of ``network`` on the CPU compute with packed weights.

    No bfloat16 weight is in memory twice: the plain one is empty meanwhile, unless it is tied to another module, and
    comes back on leaving. Layers on other devices or in other types, and machines without oneDNN, are left alone.
    ``in_four_bits`` multiplies few tokens by ``FourBitWeights`` where the weights allow it. With ``step`` the results
    are batch invariant instead. Raises ``Mismatch`` where they cannot be.
    """
    owners = Counter(id(weight) for _, weight in network.named_parameters(remove_duplicate=False))
    head = network.get_output_embeddings() if isinstance(network, PreTrainedModel) else None
    products: list[PackedProduct] = []
    try:
        for layers in _products(network):
            lone = [owners[id(layer.weight)] == 1 for layer in layers]
            product = PackedProduct(layers, lone, step, is_head=head in layers)
            products.append(product)
            product.open(in_four_bits and step is None)
        if step is not None:
            _require_invariant(products)
        yield products
    finally:
        for product in products:
            product.close()


def in_huge_pages(products: Sequence["PackedProduct"]) -> None:
    """Let packed weights lie in pages of 2 MiB, where there are enough of them."""
    if sum(product.nbytes for product in products) >= MANY_BYTES:
        gather_memory()


def _products(network: nn.Module) -> Iterator[tuple[nn.Linear, ...]]:
    """Layers that can be packed, those that multiply the same states together."""
    taken: set[nn.Module] = set()
    for parent in network.modules():
        for names in SHARED_INPUT:
            layers = [layer for layer in (getattr(parent, name, None) for name in names) if _can_be_packed(layer)]
            if len(layers) == len(names) and len({(layer.in_features, layer.bias is None) for layer in layers}) == 1:
                taken.update(layers)
                yield tuple(layers)
    for layer in network.modules():
        if layer not in taken and _can_be_packed(layer):
            yield (layer,)


def _require_invariant(products: Sequence["PackedProduct"]) -> None:
    """One product of each shape is tried."""
    for product in {(product.width, product.sizes, product.is_head): product for product in products}.values():
        columns = f"{product.width} to {sum(product.sizes)} columns"
        require_invariant(product.compute, product.width, columns, is_head=product.is_head)


def _can_be_packed(layer: nn.Module | None) -> TypeGuard[nn.Linear]:
    if type(layer) is not nn.Linear:
        return False
    weight = layer.weight
    fits = weight.device.type == "cpu" and weight.dtype == torch.bfloat16 and weight.ndim == 2
    available = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return fits and available and hasattr(torch.ops.mkldnn, "_linear_pointwise")


@dataclass(eq=False)
class PackedProduct:
    """One product for layers that multiply the same states."""

    layers: Sequence[nn.Linear]
    lone: Sequence[bool]
    """Whether no other module holds the layer's weight."""
    step: StepRows | None = None
    """For batch-invariant results."""
    is_head: bool = False
    four_bit: FourBitWeights | None = None
    """For few tokens."""
    _weight: Tensor | None = None
    _bias: Tensor | None = None
    _states: Tensor | None = None
    """That the results are of."""
    _results: list[Tensor | None] = field(default_factory=list)
    """By layer, until it is asked for."""

    @torch.inference_mode(False)
    def open(self, in_four_bits: bool) -> None:
        weights = [layer.weight.detach() for layer in self.layers]
        biases = [layer.bias.detach() for layer in self.layers if layer.bias is not None]
        whole = weights[0] if len(weights) == 1 else torch.cat(weights)
        self.four_bit = FourBitWeights.of(whole) if in_four_bits else None
        self._weight = torch.ops.mkldnn._reorder_linear_weight(whole, ROWS)
        self._bias = (biases[0] if len(biases) == 1 else torch.cat(biases)) if biases else None
        for number, (layer, alone) in enumerate(zip(self.layers, self.lone, strict=True)):
            layer.forward = self.multiply if len(weights) == 1 else self._forward_of(number)  # type: ignore[method-assign, assignment]
            if alone:
                layer.weight.data = layer.weight.new_empty(0)

    @torch.inference_mode(False)
    def close(self) -> None:
        """Give the weights back, so that they can be trained on; nothing to do where packing failed."""
        if self._weight is None:
            return
        weights = torch.split(self._weight.to_dense(), list(self.sizes))
        for layer, alone, weight in zip(self.layers, self.lone, weights, strict=True):
            if alone:
                layer.weight.data = weight.clone() if len(self.sizes) > 1 else weight
            del layer.forward
        self._weight, self._states, self._results, self.four_bit = None, None, [], None

    @property
    def width(self) -> int:
        return self.layers[0].in_features

    @property
    def sizes(self) -> tuple[int, ...]:
        return tuple(layer.out_features for layer in self.layers)

    @property
    def nbytes(self) -> int:
        """In bfloat16."""
        return 2 * self.width * sum(self.sizes)

    def multiply(self, states: Tensor) -> Tensor:
        if self.four_bit is not None and states.shape[:-1].numel() <= FEW_ROWS:
            return self.four_bit.multiply(states, self._bias)
        if self.step is not None:
            return self.step.multiply(self.compute, states, is_head=self.is_head)
        return self.compute(states)

    def compute(self, states: Tensor) -> Tensor:
        result: Tensor = torch.ops.mkldnn._linear_pointwise(states, self._weight, self._bias, "none", [], "")
        return result

    def _forward_of(self, number: int) -> Callable[[Tensor], Tensor]:
        sizes = list(self.sizes)

        def forward(states: Tensor) -> Tensor:
            if states is not self._states or self._results[number] is None:
                self._states, self._results = states, list(torch.split(self.multiply(states), sizes, -1))
            result, self._results[number] = self._results[number], None
            if not any(part is not None for part in self._results):
                self._states = None
            return result  # type: ignore[return-value]

        return forward
