"""Probing plan: every checkpoint with every dimension, and how one such unit is measured."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

from pipelines.model_io.activations import Activations
from pipelines.model_io.reading import Reading
from pipelines.probe.measure import ProbeMeasurement, measure
from pipelines.probe.result import UnitResult
from pipelines.statements.labelled import LabelledStatements
from pipelines.sweep.folds import fitting_split
from pipelines.sweep.protocol import FittingProtocol
from pipelines.sweep.run import weights_identity
from pipelines.sweep.unit import unit_digest, unit_fields
from registry.checkpoints import Checkpoint
from serving.model.language_model import LanguageModel
from serving.model.placement import Placement


@dataclass(frozen=True)
class SweepPlan:
    """The units of a probing sweep: every checkpoint with every dimension's statements."""

    checkpoints: tuple[Checkpoint, ...]
    statements: Mapping[str, LabelledStatements]
    """By name of dimension."""
    protocol: FittingProtocol = FittingProtocol()
    reading: Reading = Reading()
    placement: Placement = Placement()
    """Resolved on this machine where it says ``auto``."""
    keep_activations: bool = False

    def __post_init__(self) -> None:
        if not self.placement.is_resolved:
            object.__setattr__(self, "placement", self.placement.resolved())

    def digest(self, checkpoint: Checkpoint, dimension: str) -> str:
        settings = {
            **self.protocol.identity(),
            **self.reading.identity(),
            **self.placement.identity(),
        }
        return unit_digest(weights_identity(checkpoint), self.statements[dimension].digest, settings)

    @property
    def work(self) -> int:
        return 2 * len(self.checkpoints) * sum(statements.n for statements in self.statements.values())

    def measure(self, model: LanguageModel, dimension: str, activations: Activations, seconds: float) -> UnitResult:
        began, statements = time.perf_counter(), self.statements[dimension]
        measured = measure(activations, statements, self.protocol, device=model.device)
        digest = self.digest(model.checkpoint, dimension)
        result = _result(digest, model, statements, self.protocol, measured, time.perf_counter() - began + seconds)
        return replace(result, pooling=self.reading.pooling)


@dataclass(frozen=True)
class PlanAfterProbing:
    """What every sweep shares that follows one of probing: it reads and places the models as that did."""

    probing: SweepPlan

    @property
    def reading(self) -> Reading:
        return self.probing.reading

    @property
    def placement(self) -> Placement:
        return self.probing.placement

    @property
    def keep_activations(self) -> bool:
        return False

    def identity(self) -> dict[str, str | int]:
        """Of what decides a result, that which probing decided."""
        return {
            "pooling": self.reading.pooling,
            **self.probing.protocol.identity(),
            **self.placement.identity(),
        }


def _result(
    digest: str,
    model: LanguageModel,
    statements: LabelledStatements,
    protocol: FittingProtocol,
    measured: ProbeMeasurement,
    seconds: float,
) -> UnitResult:
    return UnitResult(
        **unit_fields(digest, model, statements),
        n_layers=model.n_layers,
        protocol=protocol.protocol,
        split=fitting_split(statements, protocol),
        scores=measured.scores,
        directions=measured.directions,
        probabilities=measured.probabilities,
        validation=measured.validation,
        seconds=seconds,
        distances=measured.distances,
    )
