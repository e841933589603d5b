"""Steering bank: the registered vectors that are live, as one matrix per layer.

At layer ``l`` the offset of a token is ``c @ bank.matrix(l)``, where ``c`` has one coefficient per vector. The
coefficients come from a request's plan (``serving.steering.plan``).
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from jaxtyping import Float32

from registry.errors import InvalidInput, Mismatch
from registry.records import RegisteredVector
from registry.vectors import LinearProbe, SteeringVector
from serving.steering.compatibility import ModelFacts, require_fits


@dataclass(frozen=True)
class ServedVector:
    """One version of a registered vector, in memory. Raises ``Mismatch`` when its file contradicts its tags."""

    registered: RegisteredVector
    vector: SteeringVector
    probe: LinearProbe | None = None
    """The probe registered beside it, which conditions read."""
    experiment_id: str | None = None
    """Where its run is in MLflow's UI."""

    def __post_init__(self) -> None:
        self.registered.require_agrees(self.vector)
        width = self.registered.tags.get("d_model", str(self.vector.d_model))
        probe_width = self.vector.d_model if self.probe is None else len(self.probe.weights)
        if {width, str(probe_width)} != {str(self.vector.d_model)}:
            raise Mismatch(
                f"{self.registered.uri} is tagged d_model={width}, its file has {self.vector.d_model} and its probe "
                f"{probe_width}"
            )

    @property
    def reference(self) -> str:
        """Such as ``steer.smollm2.privacy/2``. A version never changes, so this names its content."""
        return f"{self.registered.name}/{self.registered.version}"

    @property
    def dimension(self) -> str:
        return self.vector.dimension

    @property
    def layers(self) -> tuple[int, ...]:
        return self.vector.layers

    def relative_norm(self, shift: float, norms: Mapping[int, float]) -> float:
        """Length of ``shift`` standard deviations, as a share of the typical length of hidden states at the layer.

        Of several layers the largest share.
        """
        return max(self.relative_norm_at(layer, shift, norms) for layer in self.layers)

    def relative_norm_at(self, layer: int, shift: float, norms: Mapping[int, float]) -> float:
        """The same at one of its layers."""
        return abs(shift) * self.vector.at(layer).scale / norms[layer]

    @property
    def reader(self) -> LinearProbe | None:
        """The probe, where its readings may be used."""
        return self.probe if self.probe is not None and self.probe.works else None

    def require_reader(self) -> LinearProbe:
        """The probe that a monitor reads by. Raises ``InvalidInput`` without one, or for one that tells nothing."""
        if self.probe is None:
            raise InvalidInput(
                f"{self.reference} has no probe beside it, as controls, vectors from elsewhere and those of answers "
                "that an earlier release registered: calibrate its method again to have one fitted"
            )
        if not self.probe.works and self.probe.quality is not None:
            raise InvalidInput(
                f"the probe of {self.reference} is not used, since it does not tell answers apart beyond its controls: "
                f"{self.probe.quality.describe()}"
            )
        return self.probe

    def require_probe(self) -> LinearProbe:
        """The probe to steer by. Raises ``InvalidInput`` as ``require_reader``, or for one of a later layer.

        A probe reads before anything is added at its layer, so it may read the lowest layer that the vector steers.
        """
        try:
            probe = self.require_reader()
        except InvalidInput as error:
            raise InvalidInput(f"{error}; leave the condition out") from error
        if probe.layer > self.layers[0]:
            raise InvalidInput(
                f"the probe of {self.reference} reads layer {probe.layer} and the vector steers layer "
                f"{self.layers[0]}; a probe must read the same layer or an earlier one"
            )
        return probe


@dataclass(frozen=True)
class SteeringBank:
    """Vectors of one model; row ``d`` of every coefficient row and matrix is ``vectors[d]``.

    Raises ``Mismatch`` for a vector that does not fit the model, ``InvalidInput`` for one that is there twice.
    """

    model: ModelFacts
    vectors: tuple[ServedVector, ...] = ()
    champions: Mapping[str, str] = field(default_factory=dict)
    """From a dimension to the reference of the vector that steers it when a request names no vector."""

    def __post_init__(self) -> None:
        for vector in self.vectors:
            require_fits(vector.registered, self.model)
        references = [vector.reference for vector in self.vectors]
        doubles = sorted({reference for reference in references if references.count(reference) > 1})
        if doubles:
            raise InvalidInput(f"the bank holds {', '.join(doubles)} more than once; load each version once")
        for dimension, reference in self.champions.items():
            vector_dimension = self.vectors[self.row(reference)].dimension
            if vector_dimension != dimension:
                raise Mismatch(f"the champion of {dimension} is {reference}, whose dimension is {vector_dimension}")

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {vector.reference: row for row, vector in enumerate(self.vectors)}

    def row(self, reference: str) -> int:
        """The row of a vector. Raises ``InvalidInput`` for one that the bank lacks."""
        if reference not in self._rows:
            raise InvalidInput(f"the bank lacks {reference}; it holds {', '.join(self._rows) or 'no vectors'}")
        return self._rows[reference]

    def find(self, reference: str) -> ServedVector | None:
        row = self._rows.get(reference)
        return None if row is None else self.vectors[row]

    def champion(self, dimension: str) -> ServedVector | None:
        reference = self.champions.get(dimension)
        return None if reference is None else self.find(reference)

    @cached_property
    def layers(self) -> tuple[int, ...]:
        """The layers that the vectors steer, in order."""
        return tuple(sorted({layer for vector in self.vectors for layer in vector.layers}))

    @cached_property
    def identity(self) -> str:
        """A digest of the references in their order: registered versions never change."""
        content = "\n".join((self.model.name, *self._rows))
        return hashlib.blake2b(content.encode(), digest_size=16).hexdigest()

    @cached_property
    def _matrices(self) -> dict[int, Float32[np.ndarray, "vectors d_model"]]:
        matrices = {layer: np.zeros((len(self.vectors), self.model.d_model), np.float32) for layer in self.layers}
        for row, vector in enumerate(self.vectors):
            for layer, offset in vector.vector.offsets(1.0).items():
                matrices[layer][row] = offset
        return matrices

    def matrix(self, layer: int) -> Float32[np.ndarray, "vectors d_model"]:
        """Each vector's offset at strength 1; zero for vectors of other layers."""
        matrix = self._matrices.get(layer)
        return np.zeros((len(self.vectors), self.model.d_model), np.float32) if matrix is None else matrix
