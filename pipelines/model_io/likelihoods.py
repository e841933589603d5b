"""Log-probabilities of whole texts under a model, plain or steered."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from pipelines.model_io.batches import batches, padded, tokenise
from serving.model.language_model import LanguageModel
from serving.model.residual_stream import decoder_blocks, steering

TOKENS_PER_BATCH = 1024
"""Padded tokens in one forward pass: their logits over a large vocabulary are the memory."""


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
        for block in blocks:
            setattr(block, "forward", lambda *_args, **_kwargs: known)  # noqa: B010 (mypy: a method)
        try:
            yield
        finally:
            for block in blocks:
                delattr(block, "forward")


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
    sequences = tokenise(model, texts)
    totals = np.zeros(len(texts))
    lowest = min(offsets or {}, default=0)
    for batch, rows in enumerate(batches([len(sequence) for sequence in sequences], tokens_per_batch)):
        tokens, lengths = padded([sequences[row] for row in rows], model.device)
        reused = below.reused(model.network, lowest, batch) if below and offsets else nullcontext()
        with torch.inference_mode(), reused, steering(model.network, offsets or {}):
            logits = model.network(input_ids=tokens, use_cache=False).logits[:, :-1]
        losses = cross_entropy(logits.flatten(0, 1).float(), tokens[:, 1:].flatten(), reduction="none")
        real = torch.arange(1, tokens.shape[1]) < lengths[:, None]
        totals[rows] = -(losses.cpu().double().view(real.shape) * real).sum(dim=1).numpy()
    return Likelihoods(totals, np.array([len(sequence) - 1 for sequence in sequences]))
