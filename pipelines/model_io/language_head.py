"""Language head: logits of a trunk's hidden states, a few rows at a time.

The logits of a batch over a vocabulary of 49,152 are a hundred times its hidden states. The network's own forward pass
makes them here, with its trunk answering by the given rows: whatever a family does to its logits, such as a softcap or
a scale, is done by the family's own code.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor, nn

from serving.model.log_sums import log_sum_exp

LOGITS_AT_ONCE = 1 << 24
"""Logits in memory at a time: 341 rows of 49,152. Fewer rows lay the head out anew more often."""
PROBE_TOKENS = 4
TOLERANCES = {torch.float32: 1e-4}
LOW_PRECISION_TOLERANCE = 0.05
"""Of the largest logit: what the same rows may differ by when the head multiplies them in other company."""

_separable: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()


@contextmanager
def forward_replaced(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """While open, ``module`` computes ``forward``; a forward that hangs on the instance itself comes back after."""
    own = vars(module).get("forward")
    setattr(module, "forward", forward)  # noqa: B010 (mypy: a method)
    try:
        yield
    finally:
        if own is None:
            delattr(module, "forward")
        else:
            setattr(module, "forward", own)  # noqa: B010


def has_separable_head(network: Any) -> bool:
    """Whether logits of hidden states, row by row, are those of the whole network; found out by running it both ways.

    False where the network's forward pass does not call its trunk as a whole (OPT calls a part of it).
    """
    if network not in _separable:
        _separable[network] = _is_separable(network)
    return _separable[network]


@dataclass(frozen=True, eq=False)
class LanguageHead:
    """The head of ``network``, while ``head_apart`` is open; several threads may ask it at once."""

    network: Any
    answers: threading.local
    """What the trunk says in this thread in place of running."""

    def log_probabilities(
        self,
        output: Any,
        states: Float[Tensor, "followed d_model"],
        rows: Int64[Tensor, " m"],
        followers: Int64[Tensor, " m"],
    ) -> Float32[Tensor, " m"]:
        """In nats, that each of ``followers`` comes next by its row of ``states``, taken from a trunk's ``output``.

        ``rows`` are in order; every row has a follower.
        """
        at_once = max(1, LOGITS_AT_ONCE // int(self.network.get_output_embeddings().weight.shape[0]))
        counts = torch.bincount(rows // at_once).tolist()
        parts = [
            follower_log_probabilities(self.logits(type(output), some), own % at_once, next_tokens)
            for some, own, next_tokens in zip(
                *(torch.split(states, at_once), torch.split(rows, counts), torch.split(followers, counts)), strict=True
            )
        ]
        return torch.cat(parts)

    def logits(
        self, output_type: Callable[..., Any], states: Float[Tensor, "tokens d_model"]
    ) -> Float[Tensor, "tokens vocabulary"]:
        network = self.network
        self.answers.given = output_type(last_hidden_state=states[None])
        try:
            unread = states.new_zeros(1, len(states), dtype=torch.long)
            logits: Tensor = network(input_ids=unread, use_cache=False).logits
        finally:
            self.answers.given = None
        return logits[0]


@contextmanager
def head_apart(network: Any) -> Iterator[LanguageHead]:
    """While open, the head can be had alone; the trunk runs as before where it is called without it."""
    answers, run = threading.local(), network.base_model.forward

    def forward(*arguments: Any, **named: Any) -> Any:
        given = getattr(answers, "given", None)
        return run(*arguments, **named) if given is None else given

    with forward_replaced(network.base_model, forward):
        yield LanguageHead(network, answers)


def follower_log_probabilities(
    logits: Float[Tensor, "followed vocabulary"], rows: Int64[Tensor, " m"], followers: Int64[Tensor, " m"]
) -> Float32[Tensor, " m"]:
    """In nats, that each of ``followers`` comes next by its row."""
    own = rows.to(logits.device)
    return logits[own, followers.to(logits.device)].float() - log_sum_exp(logits)[own]


@torch.inference_mode()
def _is_separable(network: Any) -> bool:
    tokens = torch.arange(PROBE_TOKENS, device=network.get_input_embeddings().weight.device)[None]
    whole: Tensor = network(input_ids=tokens, use_cache=False).logits[0]
    try:
        output = network.base_model(input_ids=tokens, use_cache=False)
        with head_apart(network) as head:
            parts = output.last_hidden_state[0].split(PROBE_TOKENS // 2)
            halves = [head.logits(type(output), part) for part in parts]
    except (AttributeError, TypeError, ValueError, RuntimeError):
        return False
    found = torch.cat(halves)
    limit = TOLERANCES.get(whole.dtype, LOW_PRECISION_TOLERANCE) * float(whole.float().abs().max())
    return found.shape == whole.shape and bool((found.float() - whole.float()).abs().max() <= limit)
