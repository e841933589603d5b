"""The units of an information sweep, and what they share: a fixed reference input and an n-gram baseline."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float

from pipelines.information.measure import Shared, keep_transferable, measure_information
from pipelines.information.options import InformationSettings
from pipelines.information.result import SCHEMA_VERSION, InformationResult
from pipelines.information.store import InformationStore
from pipelines.model_io.activations import Activations, extract
from pipelines.model_io.reading import Reading
from pipelines.statements.floors import ngram_char_scores, ngram_word_scores
from pipelines.statements.labelled import LabelledStatements
from pipelines.sweep.folds import Splits, cross_validation
from pipelines.sweep.protocol import N_FOLDS
from pipelines.sweep.run import loaded, weights_identity
from pipelines.sweep.unit import unit_digest, unit_fields
from registry.checkpoints import Checkpoint
from serving.model.language_model import LanguageModel
from serving.model.placement import Placement


@dataclass(frozen=True)
class InformationPlan:
    """Every checkpoint with every dimension's statements."""

    checkpoints: tuple[Checkpoint, ...]
    """In order of step; block 0 of the last is the fixed reference input."""
    statements: Mapping[str, LabelledStatements]
    settings: InformationSettings = InformationSettings()
    reading: Reading = Reading()
    placement: Placement = Placement()
    """Resolved on this machine where it says ``auto``."""
    shared: Mapping[str, Shared] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.placement.is_resolved:
            object.__setattr__(self, "placement", self.placement.resolved())

    @property
    def keep_activations(self) -> bool:
        return False

    @property
    def work(self) -> int:
        return 2 * len(self.checkpoints) * sum(statements.n for statements in self.statements.values())

    def digest(self, checkpoint: Checkpoint, dimension: str) -> str:
        settings = {
            "experiment": f"information {SCHEMA_VERSION}",
            **self.settings.identity(),
            **self.reading.identity(),
            "folds": N_FOLDS,
            **self.placement.identity(),
            "reference": weights_identity(self.checkpoints[-1]),
        }
        return unit_digest(weights_identity(checkpoint), self.statements[dimension].digest, settings)

    def prepared(
        self, store: InformationStore, on_dimension: Callable[[str], None] = lambda _: None
    ) -> "InformationPlan":
        """The plan with what its unfinished units need."""
        unfinished = {
            name: statements
            for name, statements in self.statements.items()
            if any(store.find(self.digest(checkpoint, name)) is None for checkpoint in self.checkpoints)
        }
        if not unfinished:
            return self
        shared = {}
        with loaded(self.checkpoints[-1], self.placement) as model:
            for name, statements in unfinished.items():
                on_dimension(name)
                pooling, prompts = self.reading.pooling, statements.prompts
                reference = extract(model, statements.texts, prompts=prompts, layers=(0,), pooling=pooling).layer(0)
                splits = cross_validation(statements, (self.settings.seed,))
                shared[name] = Shared(reference, splits, ngram_baseline(statements, splits))
        return replace(self, shared=shared)

    def measure(
        self, model: LanguageModel, dimension: str, activations: Activations, seconds: float
    ) -> InformationResult:
        began, statements, shared = time.perf_counter(), self.statements[dimension], self.shared[dimension]
        points = measure_information(activations, statements, self.settings, shared, device=model.device)
        paper = self.settings.is_paper
        return InformationResult(
            **unit_fields(self.digest(model.checkpoint, dimension), model, statements),
            n=int(statements.n * 0.8) if paper else statements.n,
            seed=self.settings.seed,
            points=points,
            transferable=keep_transferable(activations, statements, shared.splits.folds[0]),
            seconds=time.perf_counter() - began + seconds,
        )


def ngram_baseline(statements: LabelledStatements, splits: Splits) -> Float[np.ndarray, " n"]:
    """Held-out P(trustworthy) by the better of two n-gram models, on the folds that the probes are tested on."""
    (folds,) = splits.folds
    tested = tuple(range(int(folds.max()) + 1))
    scores = [
        model(statements.texts, statements.labels, folds, tested) for model in (ngram_word_scores, ngram_char_scores)
    ]
    return max(scores, key=lambda probabilities: float(((probabilities > 0.5) == statements.labels).mean()))
