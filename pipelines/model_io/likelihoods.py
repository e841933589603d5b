"""Log-probabilities of whole texts under a model, plain or steered."""

import threading
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64
from torch import Tensor, nn

from pipelines.model_io.batches import tokenise
from pipelines.model_io.followers import FollowerBatch, follower_batches
from pipelines.model_io.language_head import (
    LanguageHead,
    follower_log_probabilities,
    forward_replaced,
    has_separable_head,
    head_apart,
)
from pipelines.model_io.passes import run_passes
from serving.model.language_model import LanguageModel
from serving.model.residual_stream import decoder_blocks, steering

TOKENS_PER_BATCH = 1024
"""Padded tokens in one forward pass."""
TOKENS_PER_CORE = 512
"""The same where each core reads passes of its own: few enough that a hundred sentences keep a few cores busy."""

BlockOutput = Tensor | tuple[Tensor, ...]
OffsetsKey = tuple[tuple[int, bytes], ...]
"""What is added, by layer."""


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


NO_LIKELIHOODS = Likelihoods(np.empty(0), np.empty(0, np.int64))
"""Of no texts."""


@dataclass
class ReadingCache:
    """What is kept of texts that are read under many offsets: what lies below the steered layers is run once.

    Belongs to one model and one sequence of texts.
    """

    layers: Collection[int] = ()
    """That will be steered: their outputs are kept as soon as a pass comes by them unsteered."""
    known: dict[OffsetsKey, Likelihoods] = field(default_factory=dict)
    """Of the texts, by what was added."""
    outputs: dict[int, dict[int, BlockOutput]] = field(default_factory=dict)
    """By batch and layer, before anything was added."""
    batches: tuple[FollowerBatch, ...] = ()
    """Of the texts, once they were read."""
    _now: threading.local = field(default_factory=threading.local)

    def read(self, batch: int) -> None:
        """Say which batch the next forward pass of this thread is of."""
        self._now.outputs = self.outputs.setdefault(batch, {})

    @contextmanager
    def reused(self, network: nn.Module, steered: Collection[int]) -> Iterator[None]:
        """While open, a pass starts after the highest block that its batch was at before and that none is ``steered``
        below; what it runs of ``layers`` and of the lowest steered one is remembered."""
        every = list(decoder_blocks(network))
        lowest = min(steered, default=len(every) - 1)
        kept = {*self.layers, *steered}

        def forward(layer: int, run: Callable[..., BlockOutput], *arguments: Any, **named: Any) -> BlockOutput:
            outputs: dict[int, BlockOutput] = self._now.outputs
            start = max((known for known in outputs if known <= lowest), default=-1)
            if layer <= start:
                return outputs[start]
            output = run(*arguments, **named)
            if layer in kept:
                outputs[layer] = output
            return output

        with ExitStack() as changed:
            for layer, block in enumerate(every[: lowest + 1]):
                changed.enter_context(forward_replaced(block, partial(forward, layer, block.forward)))
            yield


def likelihoods(
    model: LanguageModel,
    texts: Sequence[str],
    offsets: Mapping[int, Tensor] | None = None,
    *,
    cache: ReadingCache | None = None,
    tokens_per_batch: int | None = None,
) -> Likelihoods:
    """How likely ``model`` finds each text, with ``offsets[layer]`` added to every position's residual stream.

    Every position is steered, as it would be had the model generated the text itself. With ``cache``, which must have
    seen no other texts, the blocks under the lowest steered layer are run the first time only, and nothing is run for
    offsets that it has seen.
    """
    if cache is None:
        return _likelihoods(model, texts, offsets or {}, None, tokens_per_batch)
    key = _key(offsets or {})
    if key not in cache.known:
        cache.known[key] = _likelihoods(model, texts, offsets or {}, cache, tokens_per_batch)
    return cache.known[key]


def _key(offsets: Mapping[int, Tensor]) -> OffsetsKey:
    return tuple((layer, offset.cpu().numpy().tobytes()) for layer, offset in sorted(offsets.items()))


def _likelihoods(
    model: LanguageModel,
    texts: Sequence[str],
    offsets: Mapping[int, Tensor],
    cache: ReadingCache | None,
    tokens_per_batch: int | None,
) -> Likelihoods:
    totals, tokens = np.zeros(len(texts)), np.zeros(len(texts), np.int64)
    size = tokens_per_batch or (TOKENS_PER_CORE if model.device.type == "cpu" else TOKENS_PER_BATCH)
    batches = _batches(model, texts, cache, size)
    with closing(_read(model, batches, offsets, cache)) as passes:
        for batch, found in passes:
            totals[batch.texts] = batch.totals(found)
            tokens[batch.texts] = batch.reading.lengths
    return Likelihoods(totals, tokens)


def _batches(
    model: LanguageModel, texts: Sequence[str], cache: ReadingCache | None, tokens_per_batch: int
) -> Iterable[FollowerBatch]:
    """The passes that read ``texts``: laid out once where the same texts are read again."""
    if cache is None:
        return follower_batches(model, tokenise(model, texts), tokens_per_batch)
    cache.batches = cache.batches or tuple(follower_batches(model, tokenise(model, texts), tokens_per_batch))
    return cache.batches


def _read(
    model: LanguageModel, batches: Iterable[FollowerBatch], offsets: Mapping[int, Tensor], cache: ReadingCache | None
) -> Generator[tuple[FollowerBatch, Float32[Tensor, " m"]], None, None]:
    """Each batch, with the log-probabilities of its tokens that follow another one."""
    network = model.network
    separable = has_separable_head(network)

    def read(numbered: tuple[int, FollowerBatch]) -> tuple[FollowerBatch, Float32[Tensor, " m"]]:
        number, batch = numbered
        if cache is not None:
            cache.read(number)
        with torch.inference_mode():
            return batch, _log_probabilities(network, batch, head)

    with ExitStack() as changed:
        head = changed.enter_context(head_apart(network)) if separable else None
        if cache is not None:
            changed.enter_context(cache.reused(network, offsets))
        changed.enter_context(steering(network, offsets))
        yield from changed.enter_context(closing(run_passes(model, read, enumerate(batches))))


def _log_probabilities(network: Any, batch: FollowerBatch, head: LanguageHead | None) -> Float32[Tensor, " m"]:
    """By all logits at once where the head cannot be run by itself."""
    output = (network if head is None else network.base_model)(**batch.reading.inputs, use_cache=False)
    if head is None:
        return follower_log_probabilities(batch.reading.at(batch.places, output.logits), batch.rows, batch.tokens)
    states = batch.reading.at(batch.places, output.last_hidden_state)
    return head.log_probabilities(output, states, batch.rows, batch.tokens)
