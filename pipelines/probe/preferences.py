"""Preferences of each checkpoint: between statements as it stands, and moved by its own vector and random ones.

A second sweep, since it costs forward passes: one over all statements, and one over those held out for each direction.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32

from pipelines.estimators.control_directions import random_direction
from pipelines.estimators.estimate import Estimate, GroupBootstrap
from pipelines.estimators.mass_mean import MeansCoincide, fit_mass_mean
from pipelines.estimators.preference import has_counterparts, preference_shift, preferred_share
from pipelines.model_io.activations import Activations
from pipelines.model_io.likelihoods import Likelihoods, ReadingCache, likelihoods
from pipelines.model_io.reading import deep_layers
from pipelines.probe.plan import PlanAfterProbing, SweepPlan
from pipelines.probe.result import UnitResult
from pipelines.statements.labelled import LabelledStatements
from pipelines.statements.signals import bootstrap_auroc
from pipelines.sweep.folds import split_statements
from pipelines.sweep.run import weights_identity
from pipelines.sweep.store import UnitStore
from pipelines.sweep.unit import Unit, unit_digest, unit_fields
from registry.cache import cache_root
from registry.checkpoints import Checkpoint
from serving.model.language_model import LanguageModel

STRENGTH = 2.0
"""Standard deviations of projections: where calibration begins its search. What it costs is not asked here."""
RANDOM_DIRECTIONS = 10
SCHEMA_VERSION = 1
"""Raised when the meaning of a stored result changes."""


@dataclass(frozen=True)
class SteeredPreference:
    """What a checkpoint's own vector does to its preference among statements that the vector was not fitted on."""

    shift: Estimate
    """In nats, towards trustworthy."""
    random: tuple[float, ...]
    """The same of random directions of the same norm."""


@dataclass(frozen=True)
class PreferenceResult(Unit):
    """The preferences of one checkpoint in one dimension."""

    layer: int
    """Where the vector is added."""
    unsteered: Estimate
    """How often the trustworthy statement of a pair is likelier; without pairs the AUROC of likelihood per token."""
    steered: SteeredPreference | None
    """None where the class means coincide, so that there is no vector."""
    seconds: float


class PreferenceStore(UnitStore[PreferenceResult]):
    """Finished units of preference sweeps."""

    def __init__(self, directory: Path | None = None) -> None:
        super().__init__(PreferenceResult, directory or cache_root() / "preferences")


@dataclass(frozen=True)
class PreferencePlan(PlanAfterProbing):
    """The units of a probing sweep, after it: at which layer each is steered follows from what probing found."""

    layers: Mapping[str, int]
    """By the digest of the probed unit."""

    @classmethod
    def after(cls, probing: SweepPlan, results: Sequence[UnitResult]) -> "PreferencePlan":
        return cls(probing, {result.digest: steered_layer(result) for result in results})

    @property
    def checkpoints(self) -> tuple[Checkpoint, ...]:
        return self.probing.checkpoints

    @property
    def statements(self) -> Mapping[str, LabelledStatements]:
        return self.probing.statements

    @property
    def work(self) -> int:
        return self.probing.work

    def digest(self, checkpoint: Checkpoint, dimension: str) -> str:
        settings = {
            "experiment": f"preferences {SCHEMA_VERSION}",
            "layer": self.layer(checkpoint, dimension),
            "strength": str(STRENGTH),
            "random": RANDOM_DIRECTIONS,
            **self.identity(),
        }
        return unit_digest(weights_identity(checkpoint), self.statements[dimension].digest, settings)

    def layer(self, checkpoint: Checkpoint, dimension: str) -> int:
        return self.layers[self.probing.digest(checkpoint, dimension)]

    def measure(
        self, model: LanguageModel, dimension: str, activations: Activations, seconds: float
    ) -> PreferenceResult:
        began, statements = time.perf_counter(), self.statements[dimension]
        layer = self.layer(model.checkpoint, dimension)
        fitted = split_statements(statements, self.probing.protocol).folds[0] != 0
        try:
            vector = fit_mass_mean(activations.layer(layer)[fitted], statements.labels[fitted])
        except MeansCoincide:
            steered = None
        else:
            offset = np.float32(STRENGTH * vector.scale) * vector.direction
            steered = steered_preference(model, statements.take(np.flatnonzero(~fitted)), layer, offset)
        return PreferenceResult(
            **unit_fields(self.digest(model.checkpoint, dimension), model, statements),
            layer=layer,
            unsteered=unsteered_preference(statements, likelihoods(model, statements.texts)),
            steered=steered,
            seconds=time.perf_counter() - began + seconds,
        )


def steered_layer(result: UnitResult) -> int:
    """The deep layer that is read best within the statements that the vector is fitted on; the shallower of equals."""
    inner = dict(zip(result.layers, result.validation[0, :, 0].tolist(), strict=True))
    return max(deep_layers(result.layers, result.n_layers), key=lambda layer: (inner[layer], -layer))


def unsteered_preference(statements: LabelledStatements, likely: Likelihoods) -> Estimate:
    """Whether the model finds trustworthy statements likelier, each against its counterpart where it has one.

    Without counterparts lengths differ at will, so likelihoods are then compared per token.
    """
    labels, groups = statements.labels, statements.groups
    sets = groups if statements.subgroups is None else statements.subgroups
    if has_counterparts(labels, sets):
        return preferred_share(likely.log_probabilities, labels, sets, groups)
    return bootstrap_auroc(labels, likely.log_probabilities / likely.tokens.clip(min=1), GroupBootstrap(groups))


def steered_preference(
    model: LanguageModel, held_out: LabelledStatements, layer: int, offset: Float32[np.ndarray, " d_model"]
) -> SteeredPreference:
    """The shift of preference by ``offset`` at every position, and by random directions of its norm."""
    groups = held_out.groups if held_out.subgroups is None else held_out.subgroups
    cache = ReadingCache([layer])
    plain = likelihoods(model, held_out.texts, cache=cache)

    def shift(added: Float32[np.ndarray, " d_model"]) -> Estimate:
        moved = likelihoods(model, held_out.texts, {layer: torch.from_numpy(added)}, cache=cache)
        return preference_shift(plain.log_probabilities, moved.log_probabilities, held_out.labels, groups)

    norm = np.linalg.norm(offset)
    drawn = (random_direction(len(offset), seed=seed) for seed in range(RANDOM_DIRECTIONS))
    return SteeredPreference(shift(offset), tuple(shift(norm * direction).value for direction in drawn))
