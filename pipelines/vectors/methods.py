"""Methods that make a steering vector of labelled activations, by name, and the controls beside them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType

import numpy as np
from jaxtyping import Bool, Float32, Int64

from pipelines.behaviours.answers import AnswerSet
from pipelines.estimators.control_directions import random_direction, shuffled_direction
from pipelines.estimators.lda import lda_direction
from pipelines.estimators.likeness import FittedHalves, fit_halves
from pipelines.estimators.mass_mean import MassMean, MeansCoincide, fit_mass_mean
from pipelines.estimators.mean_centred import mean_centred_direction
from pipelines.estimators.principal import principal_direction
from pipelines.estimators.probe_direction import probe_direction
from pipelines.statements.labelled import LabelledStatements
from pipelines.sweep.folds import split_statements
from pipelines.sweep.protocol import FittingProtocol
from registry.counts import counted
from registry.errors import unknown_name
from registry.vectors import Template


@dataclass(frozen=True)
class FittingSet:
    """Activations at one layer that directions are fitted on."""

    features: Float32[np.ndarray, "n d_model"]
    labels: Bool[np.ndarray, " n"]
    """True where the statement is trustworthy."""
    groups: Int64[np.ndarray, " n"]
    background: Float32[np.ndarray, "m d_model"]
    """Activations of ordinary text."""

    @cached_property
    def mass_mean(self) -> MassMean:
        return fit_mass_mean(self.features, self.labels)

    def take(self, rows: Bool[np.ndarray, " n"]) -> "FittingSet":
        """The part of the statements that ``rows`` selects, with the same ordinary text."""
        return FittingSet(self.features[rows], self.labels[rows], self.groups[rows], self.background)


METHODS: dict[str, Callable[[FittingSet], Float32[np.ndarray, " d_model"]]] = {
    "mass-mean": lambda fitting: fitting.mass_mean.direction,
    "mean-centred": lambda fitting: mean_centred_direction(fitting.features, fitting.labels, fitting.background),
    "pca": lambda fitting: principal_direction(fitting.features, fitting.labels, fitting.groups),
    "logistic": lambda fitting: probe_direction(fitting.features, fitting.labels),
    "lda": lambda fitting: lda_direction(fitting.features, fitting.labels),
}
CONTROLS = ("random", "shuffled")
RESPONSE_MEAN, PERSONA, OPTIMISED = "response-mean", "persona", "optimised"
RESPONSE_METHODS = (RESPONSE_MEAN, PERSONA, OPTIMISED)
"""Fitted on answers, not on statements; see ``pipelines.vectors.responses``."""
VERSIONS: Mapping[str, int] = MappingProxyType(dict.fromkeys((*METHODS, *RESPONSE_METHODS, *CONTROLS), 1))
"""Of the code of each method: raised when it makes another vector of the same texts, which is then registered anew."""


@dataclass(frozen=True)
class FittedTexts:
    """The texts that a direction was fitted on, where they are not a unit's statements."""

    source: str
    digest: str
    n: int
    mean_difference_norm: float
    template: Template = "none"
    monitored: AnswerSet | None = None
    """The answers as a monitor reads them, after their prompts alone."""


@dataclass(frozen=True)
class FittedDirection:
    """A direction by one method, with what one unit of strength means along it."""

    method: str
    seed: int
    """Which draw of a control; 0 for the others."""
    unit: Float32[np.ndarray, " d_model"]
    scale: float
    """Standard deviation (ddof 1) of the fitting activations' projections; of a control that of the mass-mean
    direction, so that at equal strength both move activations equally far."""
    projection_mean: float
    texts: FittedTexts | None = None

    @property
    def is_control(self) -> bool:
        return self.method in CONTROLS

    @property
    def label(self) -> str:
        """The method, with the number of the draw where there are several."""
        return f"{self.method}_{self.seed}" if self.is_control else self.method


def fit_directions(
    fitting: FittingSet, methods: Sequence[str], n_controls: int, rank: int = 0
) -> Iterator[FittedDirection]:
    """A direction by each of ``methods`` that is fitted on statements, then ``n_controls`` of each control.

    ``rank`` counts the layers of one vector: random directions are drawn anew at each.
    """
    for method in (method for method in methods if method in METHODS):
        unit = METHODS[method](fitting)
        projections = fitting.features @ unit
        yield FittedDirection(method, 0, unit, float(projections.std(ddof=1)), float(projections.mean()))
    for seed in range(n_controls):
        drawn = random_direction(fitting.features.shape[1], seed=(seed, rank) if rank else seed)
        shuffled = shuffled_direction(fitting.features, fitting.labels, seed=seed)
        for method, unit in zip(CONTROLS, (drawn, shuffled), strict=True):
            mean = float((fitting.features @ unit).mean())
            yield FittedDirection(method, seed, unit, fitting.mass_mean.scale, mean)


def direction_halves(fitting: FittingSet, method: str, halves: Bool[np.ndarray, "halves n"]) -> FittedHalves | None:
    """The direction of ``method`` on all statements and on halves of them; ``None`` for one that reads none."""
    if method not in METHODS:
        return None

    def fit(rows: Bool[np.ndarray, " n"]) -> Float32[np.ndarray, " d_model"]:
        part = fitting.take(rows)
        if len(np.unique(part.labels)) < 2:
            raise MeansCoincide(f"all of {counted(len(part.labels), 'statement')} are of one class")
        return METHODS[method](part)

    return fit_halves(fit, halves)


def fitting_rows(statements: LabelledStatements, protocol: FittingProtocol) -> np.ndarray:
    """Where statements are fitted on: all but the fold that calibration and evaluation share."""
    rows: np.ndarray = split_statements(statements, protocol).folds[0] != 0
    return rows


def choose_methods(spec: str) -> tuple[str, ...]:
    """The methods that ``spec`` names: ``none``, ``all`` of those fitted on statements, or names separated by commas.

    Raises ``UnknownName``.
    """
    if spec == "none":
        return ()
    names = list(METHODS) if spec == "all" else [name.strip() for name in spec.split(",") if name.strip()]
    if not names:
        raise unknown_name("method", spec, ("all", "none", *METHODS, *RESPONSE_METHODS))
    for name in names:
        if name not in (*METHODS, *RESPONSE_METHODS):
            raise unknown_name("method", name, ("all", *METHODS, *RESPONSE_METHODS))
    return tuple(dict.fromkeys(names))
