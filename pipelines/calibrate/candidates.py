"""Which vectors contend for calibration: directions fitted on the model itself, and vectors that are registered."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pipelines.calibrate.search import Candidate
from pipelines.model_io.activations import extract
from pipelines.probe.result import UnitResult
from pipelines.statements.labelled import LabelledStatements
from pipelines.statements.packaged import held_out_sentences
from pipelines.sweep.protocol import ProbeSettings
from pipelines.vectors.methods import BACKGROUND, FittedDirection, FittingSet, fit_directions, fitting_rows
from registry.errors import InvalidInput, Mismatch
from registry.records import RegisteredVector, vector_name
from serving.model.language_model import LanguageModel, require_layer
from serving.steering.bank import LiveVector


@dataclass(frozen=True, eq=False)
class Contender:
    """A candidate, and what must be registered, or was, for it to become champion."""

    candidate: Candidate
    fitted: FittedDirection | None = None
    """By a method other than mass-mean, whose directions the unit's result holds."""
    registered: RegisteredVector | None = None


def fitted_contenders(
    model: LanguageModel,
    result: UnitResult,
    statements: LabelledStatements,
    layers: Sequence[int],
    methods: Sequence[str],
    settings: ProbeSettings,
) -> Iterator[Contender]:
    """Directions of each layer by each method, fitted on the statements that probing fits on."""
    if "mass-mean" in methods:
        for layer in layers:
            found = result.direction(layer).mass_mean
            yield Contender(Candidate("mass-mean", layer, found.direction, found.scale))
    others = [one for one in methods if one != "mass-mean"]
    if not others:
        return
    activations = extract(model, statements.texts, layers=layers)
    background = extract(model, held_out_sentences()[-BACKGROUND:], layers=layers)
    train = fitting_rows(statements, settings)
    for layer in layers:
        features, labels, groups = activations.layer(layer)[train], statements.labels[train], statements.groups[train]
        for fitted in fit_directions(FittingSet(features, labels, groups, background.layer(layer)), others, 0):
            yield Contender(Candidate(fitted.method, layer, fitted.unit, fitted.scale), fitted=fitted)


def registered_contenders(
    model: LanguageModel, vectors: Sequence[LiveVector], statements: LabelledStatements
) -> Iterator[Contender]:
    """The registered vectors of this dimension. Raises ``Mismatch`` for one that was fitted on another draw."""
    for one in vectors:
        if one.dimension != statements.dimension:
            continue
        lineage, vector = one.vector.lineage, one.vector
        vector.require_fits(model=model.checkpoint.model, d_model=model.d_model)
        require_layer(model, vector.layer)
        if lineage.statements_source == statements.source and not statements.has_digest(lineage.statements_digest):
            raise Mismatch(
                f"{one.reference} was fitted on another draw of {statements.source} (digest "
                f"{lineage.statements_digest[:12]}, now {statements.digest[:12]}); give the data and limit it was "
                "fitted with"
            )
        yield Contender(
            Candidate(one.reference, vector.layer, vector.direction, vector.scale), registered=one.registered
        )


def require_of_model(references: Sequence[str], model: str, dimensions: Sequence[str]) -> None:
    """Raise ``InvalidInput`` for a reference to another model's vector or to a dimension that is not calibrated."""
    for reference in references:
        name = reference.removeprefix("models:/").partition("/")[0].partition("@")[0]
        if name not in {vector_name(model, one) for one in dimensions}:
            raise InvalidInput(
                f"{reference} is no vector of {model} for {', '.join(dimensions)}; make one of another checkpoint's: "
                f"mlflow run . -e vectors -P model=<its series> -P target={model}"
            )


def of_each_dimension(found: Mapping[str, Sequence[Contender]]) -> None:
    """Raise ``InvalidInput`` where a dimension has nothing to calibrate."""
    for dimension, contenders in found.items():
        if not contenders:
            raise InvalidInput(
                f"nothing is to be calibrated for {dimension}; give methods, vectors of it, or other dimensions"
            )
