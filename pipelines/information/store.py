"""Finished units of the information experiment on disk."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32
from safetensors import safe_open

from pipelines.estimators.estimate import Estimate
from pipelines.estimators.spectrum import Spectrum
from pipelines.information.result import (
    Dependence,
    InformationResult,
    LayerInformation,
    SweptBandwidth,
    Transferable,
)
from pipelines.sweep.store import ResultStoreOf
from registry.cache import cache_root
from registry.checkpoints import Checkpoint

_TENSORS = ("states", "weights", "biases", "direction")


class InformationStore(ResultStoreOf[InformationResult]):
    """Finished units, found by digest."""

    def __init__(self, directory: Path | None = None) -> None:
        super().__init__(directory or cache_root() / "information")

    def states(self, digest: str) -> Float32[np.ndarray, "n d_model"]:
        """The activations that a stored unit keeps."""
        with safe_open(self.path(digest), framework="numpy") as file:
            states: Float32[np.ndarray, "n d_model"] = file.get_tensor("states").astype(np.float32)
        return states

    def encode(self, result: InformationResult) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        header = asdict(result)
        transferable = header.pop("transferable")
        header["transfer_layer"] = transferable["layer"]
        return header, {name: np.ascontiguousarray(transferable[name]) for name in _TENSORS}

    def decode(self, header: dict[str, Any], tensors: dict[str, np.ndarray]) -> InformationResult:
        transferable = Transferable(layer=header.pop("transfer_layer"), **tensors)
        checkpoint = Checkpoint(**header.pop("checkpoint"))
        points = tuple(_point(fields) for fields in header.pop("points"))
        return InformationResult(**header, checkpoint=checkpoint, points=points, transferable=transferable)


def _point(fields: dict[str, Any]) -> LayerInformation:
    read = {
        "xt": {name: _dependence(one) for name, one in fields["xt"].items()},
        "ty": _dependence(fields["ty"]),
        "bits": Estimate(**fields["bits"]),
        "conditional_bits": Estimate(**fields["conditional_bits"]),
        "spectrum": Spectrum(**fields["spectrum"]),
        "swept": tuple(SweptBandwidth(**one) for one in fields["swept"]),
    }
    return LayerInformation(**{**fields, **read})


def _dependence(fields: dict[str, Any]) -> Dependence:
    return Dependence(**{**fields, "halves": tuple(fields["halves"])})
