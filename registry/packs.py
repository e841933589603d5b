"""Pack: the vectors that steer one model, with probes, calibrations, lineage and examples, as one value.

``registry.pack_folder`` writes it as a folder and reads it back, ``registry.pack_exchange`` takes it out of a registry
and into another.
"""

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field

from registry.calibration import Calibration
from registry.checkpoints import Checkpoint
from registry.counts import counted
from registry.embedded import embedded_seed, model_argument
from registry.errors import InvalidInput, Mismatch
from registry.examples import Example
from registry.json_record import require_types
from registry.records import RegisteredVector, calibration_tags, vector_name, vector_tags
from registry.vectors import LinearProbe, SteeringVector

MOST_VECTORS = 64
_NAME = re.compile(r"\w[\w.-]{0,99}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_PACKAGED = "packaged:"


@dataclass(frozen=True)
class PackedModel:
    """The model that a pack steers: its vectors fit these weights and no others."""

    name: str
    """As the registry names it."""
    repo: str
    """Where its weights lie: a hub id, ``packaged:<name>``, or the name of a directory or file."""
    revision: str
    step: int
    weights_digest: str
    d_model: int
    n_layers: int
    architecture: str
    """Such as ``llama``."""

    def __post_init__(self) -> None:
        require_types(self)
        if not (_NAME.fullmatch(self.name) and _DIGEST.fullmatch(self.weights_digest)):
            raise InvalidInput(f"a pack's model has a name and a SHA-256, not {self.name!r}, {self.weights_digest!r}")

    @property
    def argument(self) -> str:
        """The model as commands and services take it; empty for one that lay in a directory where it was packed."""
        if self.repo.startswith(_PACKAGED):
            source = self.repo.removeprefix(_PACKAGED)
        elif "/" in self.repo:
            source = f"{self.repo}@{self.revision}"
        else:
            return self.name if embedded_seed(self.name) is not None else ""
        return source if source == self.name else f"{self.name}={source}"

    def require_is(self, name: str, weights_digest: str) -> None:
        """Raise ``Mismatch`` unless a model has this name and these weights."""
        if weights_digest != self.weights_digest:
            raise Mismatch(
                f"the pack is for weights {self.weights_digest[:12]} of {self.name} ({self.repo}) and {name} has "
                f"{weights_digest[:12]}: give the model that it was made for, or make vectors of {name}: "
                f"mlflow run . -e calibrate --env-manager local -P {shlex.quote(f'model={model_argument(name)}')}"
            )
        if name != self.name:
            raise Mismatch(
                f"the pack is for a model named {self.name} and these weights are named {name} here: name them by "
                f"model={self.name}=… or TRUSTTRACE_MODEL_NAME={self.name}"
            )


@dataclass(frozen=True, eq=False)
class PackedVector:
    """One version of a registered vector with all that its registry says of it."""

    vector: SteeringVector
    probe: LinearProbe | None
    checkpoint: Checkpoint
    """That it was fitted on; its weights have ``vector.lineage.weights_digest``."""
    unit_digest: str
    origin: str
    """The version that it was where it was made, such as ``models:/steer.tiny.toxicity/3``."""
    calibration: Calibration | None = None
    because: str = ""
    """Why it is champion."""
    summary: str = ""
    """What opens its description, in Markdown."""
    example: Example | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    """Those that follow from nothing above."""
    metrics: Mapping[str, float] = field(default_factory=dict)

    @property
    def dimension(self) -> str:
        return self.vector.dimension

    @property
    def registered(self) -> RegisteredVector:
        """The version that a registry would have, for what follows from its tags."""
        calibrated = calibration_tags(self.calibration) if self.calibration else {}
        tags = {**self.tags, **calibrated, **vector_tags(self.vector, self.unit_digest)}
        lineage = self.vector.lineage
        return RegisteredVector(vector_name(lineage.steers, self.dimension), "0", lineage.run_id, "", tags)

    @property
    def recommended(self) -> float:
        """The strength to use; 0 where none is recommended."""
        return self.registered.recommended

    @property
    def has_control_vector(self) -> bool:
        """Whether llama.cpp can steer by it: not at layer 0, nor where no strength is recommended to export it at."""
        return self.recommended > 0 and self.vector.layers[0] > 0


@dataclass(frozen=True, eq=False)
class Pack:
    """One vector a dimension, all of one model. Raises ``InvalidInput`` or ``Mismatch`` for what is no such set."""

    model: PackedModel
    vectors: tuple[PackedVector, ...]
    """In order of dimension."""

    def __post_init__(self) -> None:
        names = [packed.dimension for packed in self.vectors]
        if not 0 < len(names) <= MOST_VECTORS or names != sorted(set(names)):
            raise InvalidInput(f"a pack has 1 to {MOST_VECTORS} vectors, one a dimension, in order; not {names}")
        for packed in self.vectors:
            self._require_fits(packed)

    def _require_fits(self, packed: PackedVector) -> None:
        vector, probe, model = packed.vector, packed.probe, self.model
        lineage, where = vector.lineage, f"the pack's vector for {packed.dimension}"
        if not _NAME.fullmatch(packed.dimension) or "." in packed.dimension:
            raise InvalidInput(f"{packed.dimension!r} is no name of a dimension")
        if not _NAME.fullmatch(packed.checkpoint.model):
            raise InvalidInput(f"{packed.checkpoint.model!r} is no name of a model")
        if lineage.steers != model.name:
            raise Mismatch(f"{where} steers {lineage.steers} and the pack is for {model.name}")
        if (vector.d_model, vector.layers[-1] < model.n_layers) != (model.d_model, True):
            raise Mismatch(
                f"{where} has width {vector.d_model} at layer {vector.layers[-1]} and {model.name} has width "
                f"{model.d_model} and {counted(model.n_layers, 'layer')}"
            )
        if probe and (probe.dimension, len(probe.weights), probe.lineage) != (
            packed.dimension,
            vector.d_model,
            lineage,
        ):
            raise Mismatch(f"{where} has a probe of {probe.dimension} with width {len(probe.weights)} beside it")
        same_weights = (lineage.checkpoint_revision, lineage.model) == (model.revision, model.name)
        measured = lineage.target_digest or (lineage.weights_digest if same_weights else model.weights_digest)
        if measured != model.weights_digest:
            raise Mismatch(
                f"{where} was made for weights {measured[:12]} and the pack is for {model.weights_digest[:12]}"
            )
