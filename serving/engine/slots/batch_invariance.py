"""Batch invariance: products whose rows have the same bits whatever rows stand beside them.

oneDNN multiplies few rows in bfloat16 by one kernel and many by another, which add up in other orders, and on some
machines a row alone by a third. Which of them a row gets depends on how many tokens a step has, so an answer depends on
its neighbours: a hidden state differs in its last bit, and once in a while a near-tie falls otherwise. Within either
kernel a row's bits depend on that row alone. Here generated tokens are always multiplied by the first and tokens of
prompts by the second.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from registry.errors import Mismatch

FEW, MANY = 32, 40
"""Up to so many rows get the first kernel, and from so many on the second."""
LEAST = 2
"""A row alone gets one of zeros beside it."""
TRIED_FEW, TRIED_MANY = (LEAST, 3, 5, 8, 16, 31, FEW), (MANY, 41, 48, 64, 100, 128, 256)
COMPARED = 2**17
"""Numbers of a result: another order of adding up shows in one of some ten thousand, the others are rounded alike."""

Product = Callable[[Tensor], Tensor]


@dataclass
class StepRows:
    """What the rows of the step that runs are: first ``n_generated`` tokens of answers, then tokens of prompts."""

    n_generated: int = 0
    n_tokens: int = 0

    def multiply(self, product: Product, states: Tensor, *, is_head: bool = False) -> Tensor:
        """``product`` of ``states``, ``[1, rows, d]``: one row a token, but for the head and in mixtures of experts."""
        if is_head or states.ndim != 3 or states.shape[1] != self.n_tokens:
            return few_rows(product, states)
        generated, prompts = states[:, : self.n_generated], states[:, self.n_generated :]
        parts = [few_rows(product, generated)] if self.n_generated else []
        parts += [many_rows(product, prompts)] if self.n_generated < self.n_tokens else []
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def few_rows(product: Product, states: Tensor) -> Tensor:
    """In pieces of ``LEAST`` to ``FEW`` rows."""
    pieces = [_at_least(LEAST, product, piece) for piece in torch.split(states, FEW, dim=-2)]
    return pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=-2)


def many_rows(product: Product, states: Tensor) -> Tensor:
    """With rows of zeros after fewer than ``MANY``."""
    return _at_least(MANY, product, states)


def _at_least(rows: int, product: Product, states: Tensor) -> Tensor:
    missing = rows - states.shape[-2]
    if missing <= 0:
        return product(states)
    padded = product(torch.nn.functional.pad(states, (0, 0, 0, missing)))
    return padded[..., :-missing, :].clone(memory_format=torch.contiguous_format)  # oneDNN would take it for longer


def require_supported(dtype: torch.dtype, device: torch.device) -> None:
    """Raise ``Mismatch`` but for float32, in which tokens are those of a request alone, and bfloat16 on a CPU."""
    available = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if dtype != torch.float32 and not (dtype == torch.bfloat16 and device.type == "cpu" and available):
        raise Mismatch(
            f"TRUSTTRACE_BATCH_INVARIANT cannot hold for {str(dtype).removeprefix('torch.')} on {device.type}, only "
            "for bfloat16 on a CPU with oneDNN; unset it, or set TRUSTTRACE_PRECISION=float32"
        )


def require_invariant(product: Product, width: int, name: str, *, is_head: bool = False) -> None:
    """Raise ``Mismatch`` where a row's bits change within ``FEW`` rows or from ``MANY`` on, as on other machines."""
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(1, max(TRIED_MANY), width, generator=generator).bfloat16()
    for tried in (TRIED_FEW,) if is_head else (TRIED_FEW, TRIED_MANY):
        most = tried[-1]
        columns = product(states[:, :most]).shape[-1]
        some = states[:, : max(most, COMPARED // columns)]
        whole = _in_pieces(product, some, most)
        for count in tried:
            found = _in_pieces(product, some, count)
            alike = min(found.shape[1], whole.shape[1])
            if not torch.equal(found[:, :alike], whole[:, :alike]):
                raise Mismatch(
                    f"the product of {name} over {count} rows has other bits on this machine than over {most}, so "
                    "answers in bfloat16 depend on their neighbours; unset TRUSTTRACE_BATCH_INVARIANT, or set "
                    "TRUSTTRACE_PRECISION=float32"
                )


def _in_pieces(product: Product, states: Tensor, count: int) -> Tensor:
    """Of ``count`` rows each; those that are left over are not computed."""
    whole = states.shape[1] // count * count
    return torch.cat([product(piece) for piece in torch.split(states[:, :whole], count, dim=1)], dim=1)
