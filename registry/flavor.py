"""MLflow flavor ``steering_vector``: a vector, the probe beside it and the code that reads them, as one directory.

Nothing is pickled. A directory carries the few modules of this package that it needs, under a name of their own: so
`mlflow.pyfunc.load_model` works where this repository is not, and hides nothing of it where it is. As a pyfunc,
``predict(hidden_states, params={"strength": 1.5})`` gives steered hidden states and ``predict(["a text"])`` gives
P(trustworthy).
"""

import os
import platform
import shutil
import tempfile
from collections.abc import Mapping
from functools import cache, cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
from mlflow.artifacts import download_artifacts
from mlflow.entities import LoggedModel, LoggedModelOutput, LoggedModelStatus
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.models.utils import _save_example
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository
from mlflow.types import DataType, ParamSchema, ParamSpec, Schema, TensorSpec

from .errors import CorruptFile, InvalidInput, Mismatch, TrustTraceError
from .layers import layer_or_range, place_text
from .serialization import (
    LARGEST_FILE_BYTES,
    SCHEMA_VERSION,
    probe_from_bytes,
    probe_to_bytes,
    vector_from_bytes,
    vector_to_bytes,
)
from .text_scoring import TextScorer
from .vectors import Direction, LinearProbe, SteeringVector

FLAVOR = "steering_vector"
VECTOR_FILE = "vector.safetensors"
PROBE_FILE = "probe.safetensors"
INPUT = "hidden_states"
REQUIREMENTS = ("jaxtyping", "mlflow", "numpy", "safetensors")
"""What the carried code needs; scoring texts needs transformers and torch besides."""

NO_LAYER = -1
"""Of hidden states whose layer is not named."""

CODE = (
    *("__init__", "digests", "errors", "flavor", "json_record", "layers", "probe_quality", "serialization"),
    *("text_scoring", "vectors"),
)
"""The modules that a directory carries; they import each other relatively."""
CODE_PACKAGE = f"{FLAVOR}_{SCHEMA_VERSION}"


def save_model(
    path: str | os.PathLike[str],
    vector: SteeringVector,
    probe: LinearProbe | None = None,
    mlflow_model: Model | None = None,
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
    _write_environment(directory)
    model = mlflow_model or Model()
    model.signature = _signature(vector)
    _save_example(model, {INPUT: np.zeros((1, vector.d_model), np.float32)}, str(directory))
    model.add_flavor(
        FLAVOR,
        vector=VECTOR_FILE,
        probe=PROBE_FILE if probe else None,
        dimension=vector.dimension,
        layer=layer_or_range(vector.layers),
    )
    model.add_flavor(
        "python_function",
        loader_module=f"{CODE_PACKAGE}.flavor",
        python_version=platform.python_version(),
        data=".",
        code="code",
        env={"virtualenv": "python_env.yaml"},
        config={"language_model": ""},
    )
    model.save(directory / "MLmodel")


def load_model(uri: str | os.PathLike[str], *, d_model: int | None = None) -> SteeringVector:
    """The vector of a model directory, or of an MLflow URI. Raises ``CorruptFile`` or ``Mismatch``."""
    return vector_from_bytes(_content(_local(uri), VECTOR_FILE), d_model=d_model)


def load_probe(uri: str | os.PathLike[str], *, d_model: int | None = None) -> LinearProbe | None:
    """The probe registered beside the vector, if there is one."""
    directory = _local(uri)
    if not (directory / PROBE_FILE).is_file():
        return None
    return probe_from_bytes(_content(directory, PROBE_FILE), d_model=d_model)


class SteeringFunction:
    """The pyfunc: hidden states in, steered ones out; texts in, P(trustworthy) out."""

    def __init__(self, vector: SteeringVector, probe: LinearProbe | None, language_model: str = "") -> None:
        self.vector, self.probe, self._language_model = vector, probe, language_model

    def predict(self, data: Any, params: Mapping[str, float] | None = None) -> np.ndarray:
        """Raises MLflow's own exception, whose text reaches the clients of `mlflow models serve`."""
        try:
            return self._answer(_values(data), params or {}, type(data).__name__)
        except TrustTraceError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from error

    def _answer(self, values: np.ndarray, params: Mapping[str, float], kind: str) -> np.ndarray:
        if values.dtype.kind == "U" and values.shape[1:] in ((), (1,)):
            return self._scorer.probability([str(text) for text in values.ravel()])
        if values.dtype.kind not in "fiu" or values.ndim != 2 or values.shape[1] != self.vector.d_model:
            raise InvalidInput(
                f"the input is {kind} of {values.dtype} {list(values.shape)}; give `{INPUT}`, float32 "
                f"[n, {self.vector.d_model}], or texts to score"
            )
        offset = self._direction(int(params.get("layer", NO_LAYER))).offset(float(params.get("strength", 1.0)))
        steered: np.ndarray = values.astype(np.float32) + offset
        return steered

    def _direction(self, layer: int) -> Direction:
        """Of a vector of several layers the one at the layer of the hidden states, which has to be named."""
        layers = self.vector.layers
        if len(layers) > 1 and layer not in layers:
            raise InvalidInput(
                f"the vector steers {place_text(layers)}: name the layer of the hidden states, such as "
                f"params={{'layer': {layers[0]}}}"
            )
        return self.vector.single if len(layers) == 1 else self.vector.at(layer)

    @cached_property
    def _scorer(self) -> TextScorer:
        if self.probe is None:
            raise InvalidInput(
                f"this version has no probe to score texts with; give `{INPUT}`, float32 [n, {self.vector.d_model}]"
            )
        return TextScorer(self.probe, self._language_model)


def _values(data: Any) -> np.ndarray:
    """What MLflow's callers send, as one array: the named input, a frame's cells, nested lists or a text."""
    named = isinstance(data, Mapping) or hasattr(data, "columns")
    if named and INPUT in data:
        data = data[INPUT]
    values = data.to_numpy() if hasattr(data, "to_numpy") else data
    try:
        return np.array(values.tolist() if getattr(values, "dtype", None) == np.dtype(object) else values, ndmin=1)
    except ValueError:  # rows of several lengths
        return np.array([], object)


def _load_pyfunc(path: str, model_config: Mapping[str, str] | None = None) -> SteeringFunction:
    return SteeringFunction(load_model(path), load_probe(path), (model_config or {}).get("language_model", ""))


def log_model(
    name: str,
    vector: SteeringVector,
    probe: LinearProbe | None,
    *,
    params: dict[str, str],
    tags: dict[str, str],
    step: int,
) -> LoggedModel:
    """Log to the active run; register with the store, which knows the names.

    As ``Model.log`` does, which besides copies the run's parameters and its metrics at ``step``, and would load the
    carried code into this process to see that it answers.
    """
    client, run = mlflow.MlflowClient(), mlflow.active_run()
    logged: LoggedModel = mlflow.initialize_logged_model(name, params=params, tags=tags, model_type="steering-vector")
    status = LoggedModelStatus.FAILED
    try:
        run_id = None if run is None else run.info.run_id
        if run_id is not None:
            client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step)])
        described = Model(artifact_path=logged.artifact_location, run_id=run_id, model_id=logged.model_id)
        repository: Any = get_artifact_repository(logged.artifact_location)
        if isinstance(repository, LocalArtifactRepository):
            save_model(repository.artifact_dir, vector, probe, described)
        else:
            with tempfile.TemporaryDirectory() as directory:
                save_model(directory, vector, probe, described)
                repository.log_artifacts(directory)
        status = LoggedModelStatus.READY
    finally:
        client.finalize_logged_model(logged.model_id, status)
    return logged


def _local(uri: str | os.PathLike[str]) -> Path:
    path = Path(uri)
    return path if path.is_dir() else Path(download_artifacts(artifact_uri=str(uri)))


def _content(directory: Path, name: str) -> bytes:
    file = directory / name
    if not file.is_file():
        raise CorruptFile(f"the registered model has no {name}; it is not a {FLAVOR}")
    if file.stat().st_size > LARGEST_FILE_BYTES:
        raise CorruptFile(f"{name} has {file.stat().st_size} bytes; none of ours has more than {LARGEST_FILE_BYTES}")
    return file.read_bytes()


def _require_pair(vector: SteeringVector, probe: LinearProbe) -> None:
    of_probe = f"{probe.dimension}, layer {probe.layer}, width {len(probe.weights)}"
    of_vector = f"{vector.dimension}, layer {vector.layers[0]}, width {vector.d_model}"
    if of_probe != of_vector:
        raise Mismatch(f"the probe is of {of_probe} and the vector of {of_vector}; register them apart")


def _write_environment(directory: Path) -> None:
    """The carried code, and what it needs at the versions that it was written with."""
    code = directory / "code" / CODE_PACKAGE
    code.mkdir(parents=True)
    for module in CODE:
        shutil.copyfile(Path(__file__).with_name(f"{module}.py"), code / f"{module}.py")
    (directory / "requirements.txt").write_text(_requirements())
    (directory / "python_env.yaml").write_text(
        f"python: {platform.python_version()}\nbuild_dependencies: [pip]\ndependencies: [-r requirements.txt]\n"
    )


@cache
def _requirements() -> str:
    """Versions are read from the packages' metadata, which takes longer than all files of a directory."""
    return "".join(f"{name}=={version(name)}\n" for name in REQUIREMENTS)


def _signature(vector: SteeringVector) -> ModelSignature:
    hidden = Schema([TensorSpec(np.dtype(np.float32), (-1, vector.d_model), INPUT)])
    steered = Schema([TensorSpec(np.dtype(np.float32), (-1, vector.d_model))])
    params = [ParamSpec("strength", DataType.double, 1.0)]
    if len(vector.layers) > 1:
        params.append(ParamSpec("layer", DataType.long, NO_LAYER))
    signature = ModelSignature(hidden, steered, ParamSchema(params))
    # MLflow would refuse texts and frames before `predict` sees them; with this mark the model checks its own input.
    signature._is_signature_from_type_hint = True
    return signature


__all__ = ["FLAVOR", "SteeringFunction", "load_model", "load_probe", "log_model", "save_model"]
