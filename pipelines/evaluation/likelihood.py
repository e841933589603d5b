"""Log-probabilities of whole texts under a model, plain or steered."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor
from torch.nn.functional import cross_entropy

from pipelines.batches import batches, padded, tokenise
from serving.model.language_model import LanguageModel
from serving.model.residual_stream import steering

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


def likelihoods(
    model: LanguageModel,
    texts: Sequence[str],
    offsets: Mapping[int, Tensor] | None = None,
    *,
    tokens_per_batch: int = TOKENS_PER_BATCH,
) -> Likelihoods:
    """How likely ``model`` finds each text, with ``offsets[layer]`` added to every position's residual stream.

    Every position is steered, as it would be had the model generated the text itself.
    """
    sequences = tokenise(model, texts)
    totals = np.zeros(len(texts))
    for rows in batches([len(sequence) for sequence in sequences], tokens_per_batch):
        tokens, lengths = padded([sequences[row] for row in rows], model.device)
        with torch.inference_mode(), steering(model.network, offsets or {}):
            logits = model.network(input_ids=tokens, use_cache=False).logits[:, :-1]
        losses = cross_entropy(logits.transpose(1, 2).float(), tokens[:, 1:], reduction="none")
        real = torch.arange(1, tokens.shape[1]) < lengths[:, None]
        totals[rows] = -(losses.cpu().double() * real).sum(dim=1).numpy()
    return Likelihoods(totals, np.array([len(sequence) - 1 for sequence in sequences]))
