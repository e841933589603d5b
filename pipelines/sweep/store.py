"""Store of unit results: one safetensors file each, written whole or not at all."""

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from pipelines.sweep.unit import Unit
from registry.cache import writable

Result = TypeVar("Result", bound=Unit)
TENSOR = "tensor"
"""The key that stands for an array in a header."""
NAMED_BY_ALL_FILES = ".named-by-all-files"


class UnitStore(Generic[Result]):
    """Finished units of one kind, found by digest: what lets a killed sweep go on where it stopped.

    A file's header is the result as JSON, with a name in the place of each array, which is a tensor of that name.
    """

    def __init__(self, kind: type[Result], directory: Path) -> None:
        self.directory = directory
        self._kind = kind

    @cached_property
    def _adapter(self) -> Any:
        """Made when the first result is read: measuring needs no Pydantic."""
        from pydantic import ConfigDict, TypeAdapter

        # A tuple takes a configuration, a dataclass does not; those within it inherit this one.
        return TypeAdapter(tuple[self._kind], config=ConfigDict(arbitrary_types_allowed=True))  # type: ignore[name-defined]

    def retire_former(self) -> int:
        """How many results there are that were named by less than decides them; counted once, and not found again.

        Until then a name covered the weights, and neither configuration nor tokenizer nor dimension.
        """
        marker = self.directory / NAMED_BY_ALL_FILES
        if marker.is_file():
            return 0
        former = len(list(self.directory.glob("*.safetensors")))
        (writable(self.directory) / marker.name).touch()
        return former

    def path(self, digest: str) -> Path:
        return self.directory / f"{digest}.safetensors"

    def find(self, digest: str) -> Result | None:
        """The stored result, or ``None`` when there is none that can be read."""
        path = self.path(digest)
        if not path.is_file():
            return None
        try:
            with safe_open(path, framework="numpy") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                header = _with_arrays(json.loads(file.metadata()["result"]), tensors)
            (result,) = self._adapter.validate_python((header,))
        except (SafetensorError, OSError, KeyError, ValueError, TypeError):
            path.unlink(missing_ok=True)
            return None
        found: Result = result
        return found

    def save(self, result: Result) -> Path:
        """Write ``result``; a reader sees the whole file or none."""
        if not self.directory.is_dir():
            self.retire_former()
        writable(self.directory)
        tensors: dict[str, np.ndarray] = {}
        header = _plain(result, "", tensors)
        handle, scratch = tempfile.mkstemp(dir=self.directory, suffix=".tmp")
        os.close(handle)
        try:
            save_file(tensors, scratch, metadata={"result": json.dumps(header)})
            os.replace(scratch, self.path(result.digest))
        finally:
            Path(scratch).unlink(missing_ok=True)
        return self.path(result.digest)


def _plain(value: Any, name: str, tensors: dict[str, np.ndarray]) -> Any:
    """``value`` as JSON has it; its arrays are put into ``tensors``, named by where they were."""
    if isinstance(value, np.ndarray):
        tensors[name] = np.ascontiguousarray(value)
        return {TENSOR: name}
    if is_dataclass(value):
        value = {field.name: getattr(value, field.name) for field in fields(value)}
    if isinstance(value, Mapping):
        return {key: _plain(part, f"{name}.{key}".lstrip("."), tensors) for key, part in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(part, f"{name}.{place}", tensors) for place, part in enumerate(value)]
    return value


def _with_arrays(value: Any, tensors: Mapping[str, np.ndarray]) -> Any:
    """The reverse of ``_plain``."""
    if isinstance(value, list):
        return [_with_arrays(part, tensors) for part in value]
    if not isinstance(value, dict):
        return value
    if TENSOR in value:
        return tensors[value[TENSOR]]
    return {key: _with_arrays(part, tensors) for key, part in value.items()}
