"""Store of the information experiment: finished units on disk, with the activations that one layer keeps."""

from pathlib import Path

import numpy as np
from jaxtyping import Float32
from safetensors import safe_open

from pipelines.information.result import InformationResult
from pipelines.sweep.store import UnitStore
from registry.cache import cache_root

STATES = "transferable.states"


class InformationStore(UnitStore[InformationResult]):
    """Finished units, found by digest."""

    def __init__(self, directory: Path | None = None) -> None:
        super().__init__(InformationResult, directory or cache_root() / "information")

    def states(self, digest: str) -> Float32[np.ndarray, "n d_model"]:
        """The activations that a stored unit keeps."""
        with safe_open(self.path(digest), framework="numpy") as file:
            states: Float32[np.ndarray, "n d_model"] = file.get_tensor(STATES).astype(np.float32)
        return states
