"""Unit results on disk, one safetensors file each, written whole or not at all."""

import json
import os
import tempfile
from abc import ABC, abstractmethod
from dataclasses import asdict
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from pipelines.estimators.estimate import Estimate
from pipelines.estimators.mass_mean import MassMean
from pipelines.sweep.unit import LayerDirection, ProbeScore, Unit, UnitResult
from registry.checkpoints import Checkpoint
from registry.packages import cache_root

Result = TypeVar("Result", bound=Unit)


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
        self.directory.mkdir(parents=True, exist_ok=True)
        header, tensors = self.encode(result)
        handle, scratch = tempfile.mkstemp(dir=self.directory, suffix=".tmp")
        os.close(handle)
        try:
            save_file(tensors, scratch, metadata={"result": json.dumps(header)})
            os.replace(scratch, self.path(result.digest))
        finally:
            Path(scratch).unlink(missing_ok=True)
        return self.path(result.digest)


class ResultStore(ResultStoreOf[UnitResult]):
    """Finished units of probing sweeps."""

    def __init__(self, directory: Path | None = None) -> None:
        super().__init__(directory or cache_root() / "probe")

    def encode(self, result: UnitResult) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        plain = (
            "digest",
            "weights_digest",
            "dimension",
            "statements_digest",
            "statements_source",
            "n_layers",
            "precision",
            "seconds",
        )
        header: dict[str, Any] = {name: getattr(result, name) for name in plain}
        header["checkpoint"] = asdict(result.checkpoint)
        header["scores"] = [asdict(score) for score in result.scores]
        header["directions"] = [
            {
                "layer": one.layer,
                "n_train": one.n_train,
                "held_out_auroc": one.held_out_auroc,
                "probe_bias": one.probe_bias,
                "mean_difference_norm": one.mass_mean.mean_difference_norm,
                "scale": one.mass_mean.scale,
                "projection_mean": one.mass_mean.projection_mean,
            }
            for one in result.directions
        ]
        tensors = {
            "probabilities": result.probabilities,
            "direction": np.stack([one.mass_mean.direction for one in result.directions]),
            "probe_weights": np.stack([one.probe_weights for one in result.directions]),
        }
        return header, {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}

    def decode(self, header: dict[str, Any], tensors: dict[str, np.ndarray]) -> UnitResult:
        directions = tuple(
            LayerDirection(
                layer=fields["layer"],
                n_train=fields["n_train"],
                mass_mean=MassMean(
                    tensors["direction"][row],
                    fields["mean_difference_norm"],
                    fields["scale"],
                    fields["projection_mean"],
                ),
                held_out_auroc=fields["held_out_auroc"],
                probe_weights=tensors["probe_weights"][row],
                probe_bias=fields["probe_bias"],
            )
            for row, fields in enumerate(header.pop("directions"))
        )
        scores = tuple(
            ProbeScore(
                **{**fields, "accuracy": Estimate(**fields["accuracy"]), "shuffled": Estimate(**fields["shuffled"])}
            )
            for fields in header.pop("scores")
        )
        checkpoint = Checkpoint(**header.pop("checkpoint"))
        return UnitResult(
            **header,
            checkpoint=checkpoint,
            scores=scores,
            directions=directions,
            probabilities=tensors["probabilities"],
        )
