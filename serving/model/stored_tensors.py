"""Stored tensors: which files hold a checkpoint's weights, and of which types those are, read without their values."""

import json
import shlex
import struct
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path

import torch
from transformers.modeling_utils import load_state_dict

from registry.errors import CorruptFile, InvalidInput
from serving.model.sources import ADAPTER

FULL_PRECISION = ("F64", "F32", "F16", "BF16")
"""Types of weights, as safetensors names them."""
_TORCH_NAMES = {torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}
_POINTER = b"version https://git-lfs"
_LONGEST_POINTER = 1024


def weight_names(names: Collection[str], index: Callable[[str], Path]) -> tuple[str, ...]:
    """The files among ``names`` that transformers reads weights from; ``index`` gives the path of a list of shards.

    Copies of them in other formats are not among these. Raises ``CorruptFile`` for a shard that is not there.
    """
    for whole in ("model.safetensors", "pytorch_model.bin"):
        if whole in names:
            return (whole,)
        if (listed := f"{whole}.index.json") in names:
            path = index(listed)
            try:
                shards = sorted(set(json.loads(path.read_text())["weight_map"].values()))
            except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
                raise CorruptFile(f"{path} lists no shards of weights; fetch it again") from error
            if missing := [shard for shard in shards if shard not in names]:
                raise CorruptFile(f"{path} lists {missing[0]}, which is not there; fetch it again")
            return tuple(shards)
    return ()


def quantised(directory: Path, how: str) -> InvalidInput:
    return InvalidInput(
        f"the weights in {directory} are quantised ({how}), which changes hidden states; use the model's "
        "full-precision checkpoint"
    )


def require_full_precision(directory: Path) -> None:
    """Raise ``InvalidInput`` for weights of 8 bits or fewer whose configuration does not say that they are quantised.

    They would be taken for numbers as they are, without the scales that they were divided by.
    """
    for name in weight_names([path.name for path in directory.iterdir()], directory.joinpath):
        for tensor, kind in _tensor_types(directory / name):
            if tensor.endswith("weight") and kind not in FULL_PRECISION:
                raise quantised(directory, f"{tensor} is {kind}")


def _tensor_types(path: Path) -> Iterator[tuple[str, str]]:
    """Each tensor of a file with its type, by safetensors' name where it has one."""
    if path.suffix != ".safetensors":
        stored = load_state_dict(path, map_location="meta", weights_only=True)
        tensors = ((name, tensor) for name, tensor in stored.items() if isinstance(tensor, torch.Tensor))
        return ((name, _TORCH_NAMES.get(tensor.dtype, str(tensor.dtype))) for name, tensor in tensors)
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    return ((name, tensor["dtype"]) for name, tensor in header.items() if name != "__metadata__")


def require_no_adapter(where: Path | str, names: Collection[str]) -> None:
    """Raise ``InvalidInput`` where the files ``names`` hold an adapter: transformers adds it to the weights unasked."""
    if ADAPTER in names:
        raise InvalidInput(
            f"{where} holds a PEFT adapter ({ADAPTER}) beside the model, which would change its weights: move the "
            "adapter elsewhere, or merge it with merge_and_unload and save the model anew"
        )


def require_fetched(paths: Iterable[Path]) -> None:
    """Raise ``CorruptFile`` for a pointer of Git LFS in the place of a file."""
    for path in paths:
        if path.stat().st_size < _LONGEST_POINTER and path.read_bytes().startswith(_POINTER):
            raise CorruptFile(
                f"{path} is a pointer of Git LFS and not the file; fetch what it points to by "
                f"`git -C {shlex.quote(str(path.parent))} lfs pull`"
            )
