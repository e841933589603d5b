"""The MLflow flavor ``steering_vector``: a directory with the vector, its probe and an MLmodel file; nothing pickled.

As a pyfunc, ``predict(hidden_states, params={"strength": 1.5})`` returns the steered hidden states.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np
from mlflow.models import Model, ModelSignature
from mlflow.models.model import ModelInfo
from mlflow.types import DataType, ParamSchema, ParamSpec, Schema, TensorSpec

from registry.errors import CorruptFile, Mismatch
from registry.serialization import (
    LARGEST_FILE_BYTES,
    probe_from_bytes,
    probe_to_bytes,
    vector_from_bytes,
    vector_to_bytes,
)
from registry.vectors import LinearProbe, SteeringVector

FLAVOR = "steering_vector"
VECTOR_FILE = "vector.safetensors"
PROBE_FILE = "probe.safetensors"
REQUIREMENTS = ("mlflow", "numpy", "safetensors", "jaxtyping")


def save_model(
    path: str,
    vector: SteeringVector,
    probe: LinearProbe | None = None,
    mlflow_model: Model | None = None,
    signature: ModelSignature | None = None,
    **_ignored: Any,
) -> None:
    """Write ``vector`` and ``probe`` as an MLflow model directory. Raises ``Mismatch`` when they are no pair."""
    if probe is not None:
        _require_pair(vector, probe)
    directory = Path(path)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / VECTOR_FILE).write_bytes(vector_to_bytes(vector))
    if probe is not None:
        (directory / PROBE_FILE).write_bytes(probe_to_bytes(probe))
    (directory / "requirements.txt").write_text("".join(f"{name}\n" for name in REQUIREMENTS))
    model = mlflow_model or Model()
    model.signature = signature or _signature(vector.d_model)
    model.add_flavor(
        FLAVOR, vector=VECTOR_FILE, probe=PROBE_FILE if probe else None, dimension=vector.dimension, layer=vector.layer
    )
    model.add_flavor(
        "python_function", loader_module="registry.flavor", data=".", env={"virtualenv": "requirements.txt"}
    )
    model.save(directory / "MLmodel")


def load_model(path: str | os.PathLike[str], *, d_model: int | None = None) -> SteeringVector:
    """The vector of a downloaded model directory. Raises ``CorruptFile`` or ``Mismatch``."""
    return vector_from_bytes(_content(path, VECTOR_FILE), d_model=d_model)


def load_probe(path: str | os.PathLike[str], *, d_model: int | None = None) -> LinearProbe | None:
    """The probe registered beside the vector, if there is one."""
    if not (Path(path) / PROBE_FILE).is_file():
        return None
    return probe_from_bytes(_content(path, PROBE_FILE), d_model=d_model)


def _content(path: str | os.PathLike[str], name: str) -> bytes:
    file = Path(path) / name
    if not file.is_file():
        raise CorruptFile(f"the registered model has no {name}; it is not a {FLAVOR}")
    if file.stat().st_size > LARGEST_FILE_BYTES:
        raise CorruptFile(f"{name} has {file.stat().st_size} bytes; none of ours has more than {LARGEST_FILE_BYTES}")
    return file.read_bytes()


def _require_pair(vector: SteeringVector, probe: LinearProbe) -> None:
    of_probe = f"{probe.dimension}, layer {probe.layer}, width {len(probe.weights)}"
    of_vector = f"{vector.dimension}, layer {vector.layer}, width {vector.d_model}"
    if of_probe != of_vector:
        raise Mismatch(f"the probe is of {of_probe} and the vector of {of_vector}; register them apart")


def _signature(d_model: int) -> ModelSignature:
    hidden = Schema([TensorSpec(np.dtype(np.float32), (-1, d_model))])
    return ModelSignature(hidden, hidden, ParamSchema([ParamSpec("strength", DataType.double, 1.0)]))


class _SteeringFunction:
    """What `mlflow.pyfunc.load_model` runs."""

    def __init__(self, vector: SteeringVector) -> None:
        self.vector = vector

    def predict(self, hidden_states: np.ndarray, params: dict[str, float] | None = None) -> np.ndarray:
        strength = float((params or {}).get("strength", 1.0))
        steered: np.ndarray = np.asarray(hidden_states, np.float32) + self.vector.offset(strength)
        return steered


def _load_pyfunc(path: str) -> _SteeringFunction:
    return _SteeringFunction(load_model(path))


def log_model(
    name: str,
    vector: SteeringVector,
    probe: LinearProbe | None,
    *,
    params: dict[str, str],
    tags: dict[str, str],
    step: int,
) -> ModelInfo:
    """Log to the active run; register with the store, which knows the names."""
    import registry.flavor as this_module

    logged: ModelInfo = Model.log(
        artifact_path=None,
        name=name,
        flavor=this_module,
        vector=vector,
        probe=probe,
        params=params,
        tags=tags,
        model_type="steering-vector",
        step=step,
    )
    return logged


__all__ = ["FLAVOR", "load_model", "load_probe", "log_model", "save_model"]
