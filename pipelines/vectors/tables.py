"""Tables of an extraction: ``vectors.csv``, the lines that are printed, and the run's conclusion."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from pipelines.cli.columns import name_width
from pipelines.cli.pasting import chosen, mlflow_run
from pipelines.estimators.estimate import Estimate
from pipelines.estimators.likeness import Likeness
from pipelines.experiment import calibrate_or_report
from pipelines.probe.result import UnitResult
from pipelines.statements.labelled import LabelledStatements
from pipelines.sweep.halves import able_to_calibrate
from pipelines.tracking.checkpoints import checkpoint_columns, checkpoint_table, step_label
from pipelines.tracking.conclusion import Conclusion
from pipelines.vectors.answer_probes import METRICS, FittedProbe
from pipelines.vectors.methods import FittedDirection
from pipelines.vectors.options import VectorOptions
from pipelines.vectors.places import Fitted
from registry.counts import counted
from registry.layers import layer_or_range
from registry.records import RegisteredVector

COLUMNS = checkpoint_columns(
    "target", "dimension", "layer", "method", "draw", "auroc", "auroc_low", "auroc_high", "n_test",
    "n_train", "cosine_with_mass_mean", "scale", "vector",
    "ceiling", "cosine_disjoint", "cosine_disjoint_low", "cosine_disjoint_high", "another_direction", *METRICS,
)  # fmt: skip


@dataclass(frozen=True)
class Extracted:
    """One vector, how well it tells held-out statements apart, and its version."""

    result: UnitResult
    fitted: Fitted
    auroc: Estimate
    """Of the projections on it; of several layers of their sum, each over its scale."""
    cosine: float
    """With the mass-mean vector of the same layers, of the target where there is one: of what both add."""
    vector: RegisteredVector
    likeness: Likeness | None
    """The same beside its ceiling; ``None`` for controls, for several layers, and where answers were fitted on."""
    probe: FittedProbe | None = None
    """Of the answers that it was read on."""

    @property
    def first(self) -> FittedDirection:
        """At the lowest layer."""
        return next(iter(self.fitted.values()))

    @property
    def place(self) -> int | str:
        return layer_or_range(tuple(self.fitted))


def vector_table(extracted: list[Extracted]) -> pd.DataFrame:
    """``vectors.csv``: every vector with the AUROC of held-out statements' projections on it."""
    rows = []
    for vector in extracted:
        unit, first, auroc = vector.result, vector.first, vector.auroc
        target = vector.vector.tags.get("target", "")
        where = (target, unit.dimension, vector.place, first.method, first.seed)
        quality = (auroc.value, auroc.low, auroc.high, auroc.n, unit.direction(min(vector.fitted)).n_train)
        length = math.hypot(*(fitted.scale for fitted in vector.fitted.values()))
        row = (*where, *quality, vector.cosine, length, vector.vector.uri, *_likeness_cells(vector))
        monitored = vector.probe.metrics() if vector.probe else {}
        row = (*row, *map(monitored.get, METRICS))
        rows.append((unit.checkpoint, row))
    return checkpoint_table(rows, COLUMNS)


def _likeness_cells(vector: Extracted) -> tuple[object, ...]:
    pair = vector.likeness
    return (None,) * 5 if pair is None else (pair.ceiling, pair.disjoint, pair.low, pair.high, pair.verdict)


def summary(extracted: list[Extracted]) -> str:
    """The registered vectors, one line each."""
    width = max([7, *(len(step_label(vector.result.checkpoint)) for vector in extracted)])
    name = name_width(vector.result.dimension for vector in extracted)
    lines = [
        f"{'dimension':<{name}} {'step':>{width}} {'layer':>5}  {'method':<13} {'AUROC [95 %]':<22} {'cosine':>7} "
        f"{'ceiling':>7} {'another':<14} vector"
    ]
    lines += [
        f"{vector.result.dimension:<{name}} {step_label(vector.result.checkpoint):>{width}} {vector.place:>5}  "
        f"{vector.first.label:<13} {vector.auroc!s:<22} {vector.cosine:>z7.3f} {_ceiling(vector)} "
        f"{vector.vector.uri}"
        for vector in extracted
    ]
    notes = (
        "AUROC is of held-out statements' projections; cosine is with the mass-mean vector of the same layers;",
        "ceiling: what estimates of one direction reach, by split halves; another: whether they are surely two.",
    )
    return "\n".join(["", *lines, "", *notes, *_probes(extracted)])


def _probes(extracted: Sequence[Extracted]) -> list[str]:
    """A line for each vector that was read on answers: what a monitor's readings beside it are worth."""
    lines = []
    for vector in extracted:
        if vector.probe is not None:
            quality, unused = vector.probe.quality, "" if vector.probe.quality.works else " (not used)"
            lines.append(f"Probe of {vector.vector.uri}{unused}: {quality.describe()}.")
    return ["", *lines] if lines else []


def _ceiling(vector: Extracted) -> str:
    pair = vector.likeness
    if pair is None:
        return f"{'':>7} {'':<14}"
    return f"{pair.ceiling:>z7.3f} {pair.verdict:<14}" if pair.can_be_told else f"{'':>7} {pair.verdict:<14}"


def conclusion(
    options: VectorOptions,
    extracted: Sequence[Extracted],
    measured: Mapping[str, str],
    statements: Mapping[str, LabelledStatements],
) -> Conclusion:
    """How well each registered vector separates held-out statements, and how to let them compete.

    ``measured`` is the ``checkpoint`` for that, where it is not the model's last.
    """
    model = options.target or options.series.model
    candidates = [vector.vector for vector in extracted if not vector.first.is_control]
    return Conclusion(
        verdict=(
            f"{counted(len(candidates), 'vector')} and {counted(len(extracted) - len(candidates), 'control')} "
            f"of {model}; none is served until calibration makes it champion."
        ),
        header=("dimension", "step", "layer", "method", "AUROC [95 %]", "version"),
        rows=tuple(
            (
                *(vector.result.dimension, step_label(vector.result.checkpoint), str(vector.place)),
                *(vector.first.label, f"{vector.auroc} (n = {vector.auroc.n})"),
                f"{vector.vector.name}/{vector.vector.version}",
            )
            for vector in extracted
        ),
        vectors=tuple(candidates),
        next=_calibrating(options, model, candidates, measured, statements) if candidates else _with_methods(options),
    )


def _calibrating(
    options: VectorOptions,
    model: str,
    candidates: Sequence[RegisteredVector],
    measured: Mapping[str, str],
    statements: Mapping[str, LabelledStatements],
) -> str:
    able = able_to_calibrate(statements)
    references = ",".join(f"{vector.name}/{vector.version}" for vector in candidates if vector.dimension in able)
    given = {**measured, **chosen(options, "seeds", "precision", "device", "figures")}
    if not references:
        return mlflow_run("report", model=options.series.model)
    return calibrate_or_report(options.statements, statements, model=model, methods="none", vectors=references, **given)


def _with_methods(options: VectorOptions) -> str:
    """The same command, with the methods that it was to leave out."""
    names = ("checkpoints", "layers", "answers", "target", "seeds", "precision", "device", "figures")
    return mlflow_run("vectors", options.statements, model=options.series.model, **chosen(options, *names))
