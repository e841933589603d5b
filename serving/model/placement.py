"""Placement: the device and the precision that a model is loaded with, `auto` resolved to what this machine has."""

from contextlib import suppress
from dataclasses import dataclass
from typing import Literal, get_args

import torch

from registry.errors import InvalidInput

Precision = Literal["auto", "float32", "bfloat16"]

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Placement:
    """Where a model lies and what it computes in."""

    device: torch.device
    dtype: torch.dtype

    @property
    def precision(self) -> Precision:
        """The precision that gives the same placement on any machine."""
        return "bfloat16" if self.dtype is torch.bfloat16 else "float32"


def resolve_placement(precision: str = "auto", device: str = "auto") -> Placement:
    """The placement that ``precision`` and ``device`` mean on this machine.

    ``device`` is ``auto`` (CUDA where there is one), ``cpu``, ``cuda``, ``cuda:1``, …. ``precision`` ``auto`` is
    bfloat16 where the hardware computes in it: half the bytes, and at least twice the speed. Raises ``InvalidInput``.
    """
    if precision not in get_args(Precision):
        raise InvalidInput(f"precision {precision!r} is not one of {', '.join(get_args(Precision))}")
    target = _device(device)
    if precision == "auto":
        return Placement(target, torch.bfloat16 if _computes_in_bfloat16(target) else torch.float32)
    return Placement(target, _DTYPES[precision])


def _device(device: str) -> torch.device:
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with suppress(RuntimeError):
        chosen = torch.device(device)
        if chosen.type == "cpu" or (chosen.type == "cuda" and (chosen.index or 0) < torch.cuda.device_count()):
            return chosen
    available = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    raise InvalidInput(f"device {device!r} is not available here; use auto or one of: {', '.join(available)}")


def _computes_in_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    able = torch.cpu.get_capabilities()
    return bool(able.get("avx512_bf16") or able.get("amx_bf16"))
