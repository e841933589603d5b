"""Candidates of a calibration: directions fitted on the model itself, and vectors that are registered."""

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from pipelines.model_io.activations import extract
from pipelines.probe.result import UnitResult
from pipelines.statements.labelled import LabelledStatements
from pipelines.statements.prose import background_prose
from pipelines.sweep.protocol import FittingProtocol
from pipelines.vectors.methods import RESPONSE_METHODS, FittedDirection, FittingSet, fit_directions, fitting_rows
from pipelines.vectors.places import Fitted, Place, gathered, layers_of
from pipelines.vectors.responses import response_directions, response_methods
from registry.errors import InvalidInput, Mismatch, unknown_name
from registry.records import CHAMPION, RegisteredVector, parse_reference, vector_name
from serving.model.language_model import LanguageModel
from serving.steering.bank import ServedVector
from serving.steering.compatibility import require_fits

SAME_DIRECTION = 1e-6


@dataclass(frozen=True, eq=False)
class Candidate:
    """A vector that might be calibrated, and its version or what a version is made of."""

    label: str
    """The method, or the reference of a registered vector."""
    unit_offsets: Mapping[int, Float32[np.ndarray, " d_model"]]
    """What strength 1 adds, by layer, the lowest first."""
    fitted: Fitted | None = None
    """What a version is made of, but for a mass-mean direction of one layer, which the unit's result holds."""
    registered: RegisteredVector | None = None
    has_probe: bool = False
    """Whether its version has a probe beside it; of a fitted vector, whether a probe of its answers will be."""

    @property
    def layers(self) -> Place:
        return tuple(self.unit_offsets)

    @property
    def is_champion(self) -> bool:
        """Whether a service steers by it now."""
        return self.registered is not None and CHAMPION in self.registered.aliases

    def offsets(self, strength: float) -> dict[int, Tensor]:
        """What is added to every position at ``strength``."""
        return {layer: strength * torch.tensor(offset) for layer, offset in self.unit_offsets.items()}

    def is_same_vector(self, other: "Candidate") -> bool:
        return self.layers == other.layers and all(
            np.allclose(offset, other.unit_offsets[layer], atol=SAME_DIRECTION * float(np.linalg.norm(offset)))
            for layer, offset in self.unit_offsets.items()
        )


def steered_layers(candidates: Iterable[Candidate]) -> tuple[int, ...]:
    """Every layer that one of them steers."""
    return tuple(sorted({layer for candidate in candidates for layer in candidate.layers}))


def lowest_layers(candidates: Iterable[Candidate]) -> tuple[int, ...]:
    """The lowest layer that each steers."""
    return tuple(sorted({min(candidate.layers) for candidate in candidates}))


def fitted_candidates(
    model: LanguageModel,
    result: UnitResult,
    statements: LabelledStatements,
    places: Sequence[Place],
    methods: Sequence[str],
    protocol: FittingProtocol,
) -> Iterator[Candidate]:
    """A vector of each place by each method, fitted on the statements that probing fits on."""
    layers = layers_of(places)
    for fitted in gathered(_directions(model, result, statements, layers, methods, protocol), places):
        offsets = {layer: direction.scale * direction.unit for layer, direction in fitted.items()}
        first = next(iter(fitted.values()))
        is_of_unit = first.method == "mass-mean" and len(fitted) == 1
        has_probe = first.texts is not None and first.texts.monitored is not None
        yield Candidate(first.method, offsets, None if is_of_unit else fitted, has_probe=has_probe)


def _directions(
    model: LanguageModel,
    result: UnitResult,
    statements: LabelledStatements,
    layers: Sequence[int],
    methods: Sequence[str],
    protocol: FittingProtocol,
) -> Iterator[tuple[int, FittedDirection]]:
    if "mass-mean" in methods:
        for layer in layers:
            found = result.direction(layer).mass_mean
            yield layer, FittedDirection("mass-mean", 0, found.direction, found.scale, found.projection_mean)
    on_answers = response_methods(statements.dimension, methods)
    yield from response_directions(model, statements.dimension, layers, on_answers)
    others = [method for method in methods if method not in ("mass-mean", *RESPONSE_METHODS)]
    if not others:
        return
    activations = extract(model, statements.texts, layers=layers)
    background = extract(model, background_prose(), layers=layers)
    train = fitting_rows(statements, protocol)
    for layer in layers:
        features, labels, groups = activations.layer(layer)[train], statements.labels[train], statements.groups[train]
        for fitted in fit_directions(FittingSet(features, labels, groups, background.layer(layer)), others, 0):
            yield layer, fitted


def registered_candidates(
    model: LanguageModel, vectors: Iterable[ServedVector], statements: LabelledStatements
) -> Iterator[Candidate]:
    """The registered vectors of this dimension. Raises ``Mismatch`` for one that was fitted on another draw."""
    for vector in vectors:
        if vector.dimension == statements.dimension:
            require_comparable(model, vector, statements)
            yield registered_candidate(vector)


def registered_candidate(vector: ServedVector) -> Candidate:
    offsets = {direction.layer: direction.scale * direction.unit for direction in vector.vector.directions}
    return Candidate(vector.reference, offsets, registered=vector.registered, has_probe=vector.probe is not None)


def require_comparable(model: LanguageModel, vector: ServedVector, statements: LabelledStatements) -> None:
    """Raise ``Mismatch`` for a vector of another model, or one that may be fitted on what it would be measured on."""
    lineage = vector.vector.lineage
    require_fits(vector.registered, model.facts)
    if lineage.statements_source == statements.source and not statements.has_digest(lineage.statements_digest):
        raise Mismatch(
            f"{vector.reference} was fitted on another draw of {statements.source} (digest "
            f"{lineage.statements_digest[:12]}, now {statements.digest[:12]}); give the data and limit it was "
            "fitted with"
        )


def with_champion(candidates: Sequence[Candidate], champion: Candidate) -> tuple[list[Candidate], Candidate]:
    """The candidates with the running champion among them, and which it is: it is not measured twice.

    A champion without a probe gives way to the same vector with one, where that works.
    """
    offered = list(candidates)
    for place, candidate in enumerate(offered):
        if candidate.is_same_vector(champion):
            if champion.has_probe or not candidate.has_probe:
                offered[place] = replace(candidate, registered=champion.registered)
            return offered, offered[place]
    return [*offered, champion], champion


def require_of_model(references: Sequence[str], model: str, dimensions: Sequence[str], *, given: str) -> None:
    """Raise ``InvalidInput`` for a reference to another model's vector or to a dimension that is not calibrated.

    ``given`` is the model as it was given, for the command that mends it.
    """
    names, of_model = {vector_name(model, dimension) for dimension in dimensions}, vector_name(model, "")
    for reference in references:
        name, _ = parse_reference(reference)
        dimension = name.removeprefix(of_model)
        # The vectors of a model called tiny.v2 begin with "steer.tiny." too; dimensions have no dots.
        if name.startswith(of_model) and dimension not in dimensions and "." not in dimension:
            raise unknown_name(f"dimension of {reference}", dimension, dimensions)
        if name not in names:
            raise InvalidInput(
                f"{reference} is no vector of {model} for {', '.join(dimensions)}; make one of another checkpoint's: "
                "mlflow run . -e vectors --env-manager local -P 'model=<its series>' "
                f"{shlex.join(['-P', f'target={given}'])}"
            )


def require_candidates(candidates: Mapping[str, Sequence[Candidate]]) -> None:
    """Raise ``InvalidInput`` where a dimension has nothing to calibrate."""
    for dimension, offered in candidates.items():
        if not offered:
            raise InvalidInput(
                f"`methods`, `layers` and `vectors` leave nothing to calibrate for {dimension}; give methods, other "
                "layers, vectors of it, or other dimensions"
            )
