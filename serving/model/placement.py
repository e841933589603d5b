"""Placement: the precision and the device that a model is loaded with, ``auto`` resolved to what this machine has."""

import re
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, get_args

from registry.errors import InvalidInput, unknown_name

if TYPE_CHECKING:
    import torch

Precision = Literal["auto", "float32", "bfloat16"]
MAPS = ("auto", "balanced", "balanced_low_0", "sequential")
"""How Hugging Face spreads layers over devices; a map may also name one device."""
_DEVICE = re.compile(r"auto|cpu|cuda(:\d+)?")


@dataclass(frozen=True)
class Placement:
    """Where a model lies, and what it computes in."""

    precision: Precision = field(default="auto", metadata={"help": "auto, float32 or bfloat16"})
    device: str = field(default="auto", metadata={"help": "auto, cpu, cuda, cuda:1, …"})
    device_map: str | None = field(
        default=None, metadata={"help": "Hugging Face device_map for a model larger than a device"}
    )

    def __post_init__(self) -> None:
        if self.precision not in get_args(Precision):
            raise unknown_name("precision", self.precision, get_args(Precision))
        if not _DEVICE.fullmatch(self.device):
            raise InvalidInput(f"`device` is {self.device!r}; give auto, cpu, cuda, or one of several, such as cuda:1")
        if self.device_map is not None and self.device_map not in MAPS and not _DEVICE.fullmatch(self.device_map):
            raise unknown_name("device_map", self.device_map, MAPS)

    @property
    def is_resolved(self) -> bool:
        return "auto" not in (self.precision, self.device)

    def resolved(self) -> "Placement":
        """The same with ``auto`` replaced by what this machine has: the same placement on any machine.

        ``auto`` is CUDA where there is one, and bfloat16 where the hardware computes in it: half the bytes, and at
        least twice the speed. Raises ``InvalidInput`` for a device that is not here.
        """
        device = _device(self.device)
        if self.precision != "auto":
            return replace(self, device=str(device))
        return replace(self, device=str(device), precision="bfloat16" if computes_in_bfloat16(device) else "float32")

    @property
    def dtype(self) -> "torch.dtype":
        """The precision as torch has it. Raises ``InvalidInput`` for ``auto``."""
        import torch

        if self.precision == "auto":
            raise InvalidInput("a placement of auto has no dtype; resolve it first")
        return torch.bfloat16 if self.precision == "bfloat16" else torch.float32

    def identity(self) -> dict[str, str]:
        """What decides a model's numbers: the precision, and the kind of device but not which of them."""
        if not self.is_resolved:
            raise InvalidInput("a placement of auto has no identity; resolve it first")
        return {"precision": self.precision, "device": self.device.partition(":")[0]}


def _device(device: str) -> "torch.device":
    import torch

    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with suppress(RuntimeError):
        chosen = torch.device(device)
        if chosen.type == "cpu" or (chosen.type == "cuda" and (chosen.index or 0) < torch.cuda.device_count()):
            return chosen
    available = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    raise InvalidInput(f"device {device!r} is not available here; use auto or one of: {', '.join(available)}")


def computes_in_bfloat16(device: "torch.device") -> bool:
    """Whether bfloat16 is not emulated, which is slower than float32: 10 times on processors with AVX2 alone."""
    import torch

    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    able = torch.cpu.get_capabilities()
    return bool(able.get("avx512_bf16") or able.get("amx_bf16"))
