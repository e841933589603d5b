"""Log-probabilities of whole texts under a model, plain or steered."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64
from torch import Tensor, nn

from pipelines.model_io.batches import tokenise
from pipelines.model_io.language_head import (
    follower_log_probabilities,
    forward_replaced,
    has_separable_head,
    log_probabilities,
)
from pipelines.model_io.reading_batches import ReadingBatch, reading_batches
from serving.model.language_model import LanguageModel
from serving.model.residual_stream import decoder_blocks, steering

TOKENS_PER_BATCH = 1024
"""Padded tokens in one forward pass."""


@dataclass(frozen=True)
class Likelihoods:
    """How likely each of ``n`` texts is, as the sum over its tokens but the first."""

    log_probabilities: Float64[np.ndarray, " n"]
    """In nats."""
    tokens: Int64[np.ndarray, " n"]
    """Tokens summed over."""

    @property
    def perplexity(self) -> float:
        """Of all texts together, by token."""
        return float(np.exp(-self.log_probabilities.sum() / self.tokens.sum()))


@dataclass
class Below:
    """What decoder blocks said of some texts before an offset was added: what lies below a steered layer is run once.

    Belongs to one model and one sequence of texts.
    """

    outputs: dict[tuple[int, int], Tensor | tuple[Tensor, ...]] = field(default_factory=dict)
    """By layer and batch."""
    batches: tuple[ReadingBatch, ...] = ()
    """Of the texts, once they were read."""

    @contextmanager
    def reused(self, network: nn.Module, layer: int, batch: int) -> Iterator[None]:
        """While open, a forward pass starts after block ``layer`` if it ran before, and else is remembered there."""
        blocks = list(decoder_blocks(network))[: layer + 1]
        known = self.outputs.get((layer, batch))
        if known is None:
            handle = blocks[-1].register_forward_hook(
                lambda _module, _inputs, output: self.outputs.update({(layer, batch): output})
            )
            try:
                yield
            finally:
                handle.remove()
            return
        with ExitStack() as replaced:
            for block in blocks:
                replaced.enter_context(forward_replaced(block, lambda *_args, **_kwargs: known))
            yield


def likelihoods(
    model: LanguageModel,
    texts: Sequence[str],
    offsets: Mapping[int, Tensor] | None = None,
    *,
    below: Below | None = None,
    tokens_per_batch: int = TOKENS_PER_BATCH,
) -> Likelihoods:
    """How likely ``model`` finds each text, with ``offsets[layer]`` added to every position's residual stream.

    Every position is steered, as it would be had the model generated the text itself. With ``below``, which must have
    seen no other texts, the blocks under the lowest steered layer are run the first time only.
    """
    totals, tokens = np.zeros(len(texts)), np.zeros(len(texts), np.int64)
    lowest = min(offsets or {}, default=0)
    for number, batch in enumerate(_batches(model, texts, below, tokens_per_batch)):
        reused = below.reused(model.network, lowest, number) if below and offsets else nullcontext()
        with torch.inference_mode():
            found = _log_probabilities(model.network, batch, offsets or {}, reused)
        by_place = torch.zeros(batch.inputs["input_ids"].numel(), dtype=torch.float64)
        by_place[batch.followers] = found.cpu().double()
        counted = torch.arange(1, batch.places.shape[1]) < batch.lengths[:, None]
        totals[batch.rows] = (by_place[batch.places[:, 1:]] * counted).sum(dim=1).numpy()
        tokens[batch.rows] = batch.lengths - 1
    return Likelihoods(totals, tokens)


def _batches(
    model: LanguageModel, texts: Sequence[str], below: Below | None, tokens_per_batch: int
) -> Iterable[ReadingBatch]:
    """The passes that read ``texts``: laid out once where the same texts are read again."""
    if below is None:
        return reading_batches(model, tokenise(model, texts), tokens_per_batch)
    below.batches = below.batches or tuple(reading_batches(model, tokenise(model, texts), tokens_per_batch))
    return below.batches


def _log_probabilities(
    network: Any,
    batch: ReadingBatch,
    offsets: Mapping[int, Tensor],
    reused: AbstractContextManager[None],
) -> Float32[Tensor, " followers"]:
    """Of the tokens that follow another one; by all logits at once where the head cannot be run by itself."""
    separable = has_separable_head(network)
    with reused, steering(network, offsets):
        output = (network.base_model if separable else network)(**batch.inputs, use_cache=False)
    tokens = batch.inputs["input_ids"]
    followers = tokens.flatten()[batch.followers.to(tokens.device)]
    if separable:
        return log_probabilities(network, output, batch.at(batch.parents, output.last_hidden_state), followers)
    return follower_log_probabilities(batch.at(batch.parents, output.logits), followers)
