"""Gradients of a batch in two halves, each on one core, with the loss at the language head in one pass.

A network of this size gives two threads too little to share: they would wait for each other a thousand times a step.
Halves are added in order, so that the sums do not depend on how many cores there are.

The loss and its gradient by logits come from the same exponentials, a few rows at a time while they lie in a core's
cache (as in Cut Your Losses, Wijmans et al. 2411.09009); autograd's own chain writes the logits out six times.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from pipelines.estimators.parallel import MapOnCores
from pipelines.pretrain.fused_llama import FusedLlama, FusedWeight
from serving.model.placement import computes_in_bfloat16

PARTS = 2
ROWS_AT_ONCE = 32
"""Rows of logits that are worked on together: 800 KB of a vocabulary of 6,144."""


@dataclass(frozen=True, eq=False)
class LossGradients:
    """The loss of a batch in nats per token, and its gradients in the order of the network's parameters."""

    loss: float
    by_parameter: Sequence[Tensor]


@dataclass(frozen=True, eq=False)
class HeadGradients:
    """The loss at a language head, and its gradients by what the head multiplies, in the type that it does so in."""

    loss: float
    by_states: Float[Tensor, "n d"]
    by_weight: Float[Tensor, "v d"]


def loss_gradients(network: Any, batch: Int64[Tensor, "batch seq"], on_cores: MapOnCores) -> LossGradients:
    """Of the mean loss over every token of ``batch`` but the first of each row; the head's weight is the embedding's.

    Products are taken in bfloat16 where the processor has them, sums and the rest in float32.
    """
    multiplied_in = torch.bfloat16 if computes_in_bfloat16(torch.device("cpu")) else torch.float32
    llama = FusedLlama.of(network, multiplied_in, on_cores)
    predicted = batch[:, 1:].numel()
    parts = list(on_cores(partial(_of_part, llama, predicted), batch.chunk(PARTS)))
    pieces = [(llama.embedding,), *(layer.weights for layer in llama.layers), (llama.norm,)]
    summed = on_cores(partial(_summed, llama, parts), pieces)
    found = dict(pair for pairs in summed for pair in pairs)
    return LossGradients(sum(part.loss for part in parts), [found[each] for each in network.parameters()])


@dataclass(frozen=True, eq=False)
class _Part:
    """Gradients of some rows of a batch, by each weight."""

    loss: float
    tokens: Int64[Tensor, " n"]
    by_embedded: Float[Tensor, "n d"]
    by_weight: Mapping[FusedWeight, Tensor]
    """Of the embedding as the head alone."""


def _of_part(llama: FusedLlama, predicted: int, rows: Int64[Tensor, "part seq"]) -> _Part:
    tokens, following = rows[:, :-1], rows[:, 1:].flatten()
    embedded = llama.embedded(tokens)
    states = llama.states(embedded, tokens.shape[1])
    with torch.no_grad():
        head = head_gradients(states, llama.head, following, predicted)
    by_embedded, by_weight = llama.gradients(states, embedded, head.by_states)
    return _Part(head.loss, tokens.flatten(), by_embedded, {llama.embedding: head.by_weight, **by_weight})


def _summed(llama: FusedLlama, parts: Sequence[_Part], weights: Sequence[FusedWeight]) -> list[tuple[Tensor, Tensor]]:
    """Every parameter of some weights and its gradient by the whole batch, in float32."""
    found = []
    for weight in weights:
        total = parts[0].by_weight[weight].float()
        for part in parts[1:]:
            total += part.by_weight[weight]
        if weight is llama.embedding:
            for part in parts:
                total.index_add_(0, part.tokens, part.by_embedded)
        found += weight.parted(total)
    return found


def head_gradients(
    states: Float[Tensor, "n d"], weight: Float[Tensor, "v d"], targets: Int64[Tensor, " n"], predicted: int
) -> HeadGradients:
    """Of the cross-entropy of ``targets`` under the logits of ``states``, summed and divided by ``predicted``."""
    logits, loss = states @ weight.T, 0.0
    for some, own in zip(*(torch.split(each, ROWS_AT_ONCE) for each in (logits, targets)), strict=True):
        values = some.float()
        largest = values.amax(dim=1, keepdim=True)
        right = values.gather(1, own[:, None])
        sums = values.sub_(largest).exp_().sum(dim=1, keepdim=True)
        loss += float((sums.log() + largest - right).sum())
        values.mul_(1 / (predicted * sums))
        values.scatter_add_(1, own[:, None], torch.full_like(sums, -1 / predicted))
        some.copy_(values)  # of the logits nothing else is needed
    return HeadGradients(loss / predicted, logits @ weight, logits.T @ states)
