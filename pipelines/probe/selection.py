"""Selection of probes: what choosing a layer, or a checkpoint and its layer, is worth on other statements."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from pipelines.estimators.estimate import Estimate, GroupBootstrap
from pipelines.estimators.nested_selection import nested_selection
from pipelines.estimators.saturation import Saturation, saturation
from pipelines.model_io.reading import deep_layers
from pipelines.probe.result import UnitResult
from pipelines.statements.labelled import LabelledStatements
from pipelines.sweep.folds import split_statements
from pipelines.sweep.protocol import FittingProtocol
from pipelines.sweep.unit import twins
from registry.checkpoints import Checkpoint

NESTED = "chosen on an inner fold of each outer fold, tested on the outer fold"
AS_PAPER = "chosen on the test rows, as in arXiv 2402.19465"
ABOVE_BOTH = "above both: its interval lies above the intervals of both"
NOTE = (
    "Best at: by cross-validation over all folds. Vector: by the validation fold of what it was fitted on. Above both: "
    "the interval of accuracy lies above the intervals of both controls. Readable from: the first step at which the "
    "difference from both is beyond chance, which asks less."
)
"""What the columns of a run's table mean."""
SATURATED = 0.99
"""An accuracy beyond which probes are told apart by margin, fragility and TPR at 1 % FPR alone."""


@dataclass(frozen=True)
class FoldChoice:
    """What one outer fold chose: a checkpoint and a layer, without the statements of the fold."""

    seed: int
    fold: int
    checkpoint: Checkpoint
    layer: int


@dataclass(frozen=True, eq=False)
class SelectedProbe:
    """The accuracy of a choice among probes of one dimension, and what was chosen most often."""

    what: str
    """``layer``, or ``checkpoint and layer``."""
    how: str
    result: UnitResult
    layer: int
    """Of most outer folds."""
    agreement: float
    """The share of outer folds that chose it."""
    accuracy: Estimate
    auroc: float
    bits: float
    saturation: Saturation | None
    """``None`` where a candidate's result is of a version that kept no distances."""
    right: Bool[np.ndarray, "seeds n_test"]
    """Which held-out statements the choice is right on."""
    choices: tuple["FoldChoice", ...] = ()
    """That of every outer fold."""

    @property
    def rule(self) -> str:
        """The choice in words, with how often it fell on ``layer``."""
        return f"{self.what} {self.how}; this one in {self.agreement:.0%} of them"


def select_layer(result: UnitResult, statements: LabelledStatements, protocol: FittingProtocol) -> SelectedProbe:
    """The best deep layer of one checkpoint."""
    return _selected("layer", [result], statements, protocol)


def select_checkpoint(
    results: Sequence[UnitResult], statements: LabelledStatements, protocol: FittingProtocol
) -> SelectedProbe:
    """The best checkpoint with its best deep layer; of equals the later one, then the shallower layer.

    ``results`` are in the order of training.
    """
    return _selected("checkpoint and layer", results, statements, protocol)


def _selected(
    what: str, results: Sequence[UnitResult], statements: LabelledStatements, protocol: FittingProtocol
) -> SelectedProbe:
    splits = split_statements(statements, protocol)
    rows = splits.test_rows
    candidates = [
        (result, layer, position)
        for result in reversed(results)
        for position, layer in enumerate(result.layers)
        if layer in deep_layers(result.layers, result.n_layers)
    ]
    labels, groups = statements.labels[rows], statements.groups[rows]
    probabilities = np.stack([result.probabilities[:, position] for result, _, position in candidates])
    found = nested_selection(
        np.stack([result.validation[:, position] for result, _, position in candidates]),
        probabilities,
        labels,
        np.searchsorted(splits.tested, splits.folds[:, rows]),
        GroupBootstrap(groups, fitted=True),
    )
    distances = [result.distances[:, position] for result, _, position in candidates if result.distances is not None]
    saturated = None
    if len(distances) == len(candidates):
        saturated = saturation(found.predicted(np.stack(distances)), found.predicted(probabilities), labels, groups)
    result, layer, _ = candidates[found.commonest]
    return SelectedProbe(
        what=what,
        how=AS_PAPER if protocol.is_paper else NESTED,
        result=result,
        layer=layer,
        agreement=found.agreement,
        accuracy=found.accuracy,
        auroc=found.auroc,
        bits=found.bits,
        saturation=saturated,
        right=(found.predicted(probabilities) > 0.5) == labels,
        choices=tuple(
            FoldChoice(seed, splits.tested[place], candidates[chosen][0].checkpoint, candidates[chosen][1])
            for seed, row in enumerate(found.chosen)
            for place, chosen in enumerate(row)
        ),
    )


@dataclass(frozen=True)
class Selection:
    """Every choice of a sweep, by dimension, each with its worth."""

    layers: tuple[tuple[SelectedProbe, SelectedProbe], ...]
    """Each trained checkpoint's layer, beside that of the random initialisation."""
    best: Mapping[str, SelectedProbe]
    """Checkpoint and layer; a checkpoint with the weights of an earlier one is no candidate."""
    initial: Mapping[str, SelectedProbe]
    """The layer of the random initialisation."""

    @classmethod
    def of(
        cls, results: Sequence[UnitResult], statements: Mapping[str, LabelledStatements], protocol: FittingProtocol
    ) -> "Selection":
        probes = [select_layer(result, statements[result.dimension], protocol) for result in results]
        initial = {probe.result.dimension: probe for probe in probes if probe.result.checkpoint.is_random_init}
        trained = [probe for probe in probes if not probe.result.checkpoint.is_random_init]
        repeated = twins(results)
        candidates = [probe.result for probe in trained if probe.result.checkpoint not in repeated]
        best = {
            name: select_checkpoint(
                [result for result in candidates if result.dimension == name], statements[name], protocol
            )
            for name in statements
        }
        return cls(tuple((probe, initial[probe.result.dimension]) for probe in trained), best, initial)

    @property
    def every(self) -> list[tuple[SelectedProbe, SelectedProbe]]:
        return [*self.layers, *((probe, self.initial[name]) for name, probe in self.best.items())]

    def layers_of(self, dimension: str) -> list[SelectedProbe]:
        return [probe for probe, _ in self.layers if probe.result.dimension == dimension]
