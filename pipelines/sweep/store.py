"""Unit results on disk, one safetensors file each, written whole or not at all."""

import json
import os
import tempfile
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from pipelines.sweep.unit import Unit
from registry.cache import writable

Result = TypeVar("Result", bound=Unit)
NAMED_BY_ALL_FILES = ".named-by-all-files"


class ResultStoreOf(ABC, Generic[Result]):
    """Finished units of one kind, found by digest: what lets a killed sweep go on where it stopped."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @abstractmethod
    def encode(self, result: Result) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """What of ``result`` is plain, for the header, and what is a tensor."""

    @abstractmethod
    def decode(self, header: dict[str, Any], tensors: dict[str, np.ndarray]) -> Result:
        """The reverse of ``encode``."""

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
                header = json.loads(file.metadata()["result"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return self.decode(header, tensors)
        except (SafetensorError, OSError, KeyError, ValueError, TypeError):
            path.unlink(missing_ok=True)
            return None

    def save(self, result: Result) -> Path:
        """Write ``result``; a reader sees the whole file or none."""
        if not self.directory.is_dir():
            self.retire_former()
        writable(self.directory)
        header, tensors = self.encode(result)
        handle, scratch = tempfile.mkstemp(dir=self.directory, suffix=".tmp")
        os.close(handle)
        try:
            save_file(tensors, scratch, metadata={"result": json.dumps(header)})
            os.replace(scratch, self.path(result.digest))
        finally:
            Path(scratch).unlink(missing_ok=True)
        return self.path(result.digest)
