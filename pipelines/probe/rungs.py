"""Further rungs of the lexical ladder: probes fitted again where they were chosen, and read on what they never saw.

In other frames: without the tested statements' groups *and* without the frame that they stand in. On another source:
without any of its statements. Each outer fold reads the checkpoint and the layer that it chose without its statements.
"""

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int64

from pipelines.estimators.linear_probe import predict_further
from pipelines.model_io.activations import Activations, extract
from pipelines.probe.other_source import OtherSource
from pipelines.probe.plan import PlanAfterProbing, SweepPlan
from pipelines.probe.selection import FoldChoice, SelectedProbe
from pipelines.statements.labelled import LabelledStatements
from pipelines.sweep.executors import Executor
from pipelines.sweep.folds import split_statements
from pipelines.sweep.logged import run_logged
from pipelines.sweep.run import weights_identity
from pipelines.sweep.store import UnitStore
from pipelines.sweep.unit import Unit, unit_digest, unit_fields
from registry.cache import cache_root
from registry.checkpoints import Checkpoint
from registry.errors import InvalidInput
from serving.model.language_model import LanguageModel

CHANCE = 0.5
SCHEMA_VERSION = 1
"""Raised when the meaning of a stored result changes."""


@dataclass(frozen=True)
class RungResult(Unit):
    """What the probes of some outer folds, those that chose one checkpoint, predict of what they never saw."""

    seeds: tuple[int, ...]
    folds: tuple[int, ...]
    """The fold that each probe leaves out."""
    reworded: Float32[np.ndarray, "probes n"]
    """P(trustworthy) of the left-out statements, each by a probe without its frame; not a number for the rest."""
    elsewhere: Float32[np.ndarray, "probes m"]
    """P(trustworthy) of the other source's statements; no columns where there is none."""
    refused: str
    """Why the model cannot read the other source; empty where it can."""
    seconds: float


class RungStore(UnitStore[RungResult]):
    """Finished further rungs."""

    def __init__(self, directory: Path | None = None) -> None:
        super().__init__(RungResult, directory or cache_root() / "rungs")


@dataclass(frozen=True)
class RungPlan(PlanAfterProbing):
    """The outer folds that chose one checkpoint, of the dimensions in which any did."""

    checkpoint: Checkpoint
    choices: Mapping[str, tuple[FoldChoice, ...]]
    """By dimension."""
    others: Mapping[str, LabelledStatements]
    """The other source of each dimension that has one."""

    @property
    def checkpoints(self) -> tuple[Checkpoint, ...]:
        return (self.checkpoint,)

    @property
    def statements(self) -> Mapping[str, LabelledStatements]:
        return {name: self.probing.statements[name] for name in self.choices}

    @property
    def work(self) -> int:
        return 2 * sum(statements.n for statements in self.statements.values())

    def digest(self, checkpoint: Checkpoint, dimension: str) -> str:
        statements, other = self.statements[dimension], self.others.get(dimension)
        chosen = ",".join(f"{choice.seed}:{choice.fold}:{choice.layer}" for choice in self.choices[dimension])
        frames = b"" if statements.frames is None else statements.frames.astype("<i8").tobytes()
        settings: dict[str, str | int] = {
            "experiment": f"rungs {SCHEMA_VERSION}",
            "chosen": chosen,
            "frames": hashlib.sha256(frames).hexdigest(),
            "other": other.digest if other else "",
            **self.identity(),
        }
        return unit_digest(weights_identity(checkpoint), statements.digest, settings)

    def measure(self, model: LanguageModel, dimension: str, activations: Activations, seconds: float) -> RungResult:
        began, statements = time.perf_counter(), self.statements[dimension]
        choices = self.choices[dimension]
        read, refused = self._read_elsewhere(model, dimension)
        folds = split_statements(statements, self.probing.protocol).folds
        reworded = np.full((len(choices), statements.n), np.nan, np.float32)
        elsewhere = np.full((len(choices), 0 if read is None else read.n), np.nan, np.float32)
        for layer in dict.fromkeys(choice.layer for choice in choices):
            rows = [place for place, choice in enumerate(choices) if choice.layer == layer]
            plans, features = [(choices[row].seed, choices[row].fold) for row in rows], activations.layer(layer)
            reworded[rows] = in_other_frames(features, statements, folds, plans, device=model.device)
            if read is not None:
                labels, further = statements.labels, read.layer(layer)
                elsewhere[rows] = predict_further(features, labels, folds, plans, further, device=model.device).T
        return RungResult(
            **unit_fields(self.digest(model.checkpoint, dimension), model, statements),
            seeds=tuple(choice.seed for choice in choices),
            folds=tuple(choice.fold for choice in choices),
            reworded=reworded,
            elsewhere=elsewhere,
            refused=refused,
            seconds=time.perf_counter() - began + seconds,
        )

    def _read_elsewhere(self, model: LanguageModel, dimension: str) -> tuple[Activations | None, str]:
        """The other source at the layers chosen, or why there is none: a text may be longer than the context."""
        if dimension not in self.others:
            return None, ""
        layers = sorted({choice.layer for choice in self.choices[dimension]})
        other, pooling = self.others[dimension], self.reading.pooling
        try:
            return extract(model, other.texts, prompts=other.prompts, layers=layers, pooling=pooling), ""
        except InvalidInput as error:
            return None, str(error)


def in_other_frames(
    features: Float32[np.ndarray, "n d_model"],
    statements: LabelledStatements,
    folds: Int64[np.ndarray, "seeds n"],
    plans: Sequence[tuple[int, int]],
    *,
    device: torch.device | str = "cpu",
) -> Float32[np.ndarray, "plans n"]:
    """P(trustworthy) of each plan's left-out statements by probes without their frame; not a number for the rest.

    Frames without which a probe would lack a class, in any fold that it is fitted or chosen on, are not read.
    """
    found = np.full((len(plans), statements.n), np.nan, np.float32)
    for frame in np.unique(statements.frames) if statements.frames is not None else ():
        inside = statements.frames == frame
        labels, outside = statements.labels[~inside], folds[:, ~inside]
        if not _all_have_both_classes(labels, outside, plans):
            continue
        predicted = predict_further(features[~inside], labels, outside, plans, features[inside], device=device)
        for row, (seed, fold) in enumerate(plans):
            left_out = folds[seed, inside] == fold
            found[row, np.flatnonzero(inside)[left_out]] = predicted[left_out, row]
    return found


def _all_have_both_classes(
    labels: Bool[np.ndarray, " n"], folds: Int64[np.ndarray, "seeds n"], plans: Sequence[tuple[int, int]]
) -> bool:
    n_folds = int(folds.max(initial=0)) + 1
    parts = (
        rows
        for seed, fold in plans
        for validation in [folds[seed] == (fold + 1) % n_folds]
        for rows in (validation, (folds[seed] != fold) & ~validation)
    )
    return all(len(np.unique(labels[rows])) == 2 for rows in parts)


def read_rungs(
    probing: SweepPlan,
    best: Mapping[str, SelectedProbe],
    others: Mapping[str, OtherSource],
    *,
    executor: Executor,
    delete_after_use: bool,
) -> dict[str, list[RungResult]]:
    """The further rungs of each dimension that is surely above chance on the first, from which alone it can fall.

    Every checkpoint that a fold chose is loaded once more.
    """
    given = {name: other.statements for name, other in others.items() if other.statements is not None}
    wanted = [
        name
        for name, statements in probing.statements.items()
        if (name in given or has_frames(statements)) and best[name].accuracy.low > CHANCE
    ]
    results: dict[str, list[RungResult]] = {name: [] for name in wanted}
    store, keep = RungStore(), _as_it_is
    for checkpoint in probing.checkpoints:
        choices = {name: _of(best[name].choices, checkpoint) for name in wanted}
        chosen = {name: own for name, own in choices.items() if own}
        if not chosen:
            continue
        plan = RungPlan(replace(probing, keep_activations=False), checkpoint, chosen, given)
        for result in run_logged(plan, store, keep, "ladder", executor=executor, delete_after_use=delete_after_use):
            results[result.dimension].append(result)
    return results


def has_frames(statements: LabelledStatements) -> bool:
    return statements.frames is not None and len(np.unique(statements.frames)) > 1


def _of(choices: Sequence[FoldChoice], checkpoint: Checkpoint) -> tuple[FoldChoice, ...]:
    return tuple(choice for choice in choices if choice.checkpoint == checkpoint)


def _as_it_is(result: RungResult) -> RungResult:
    return result
