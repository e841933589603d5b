"""Splits of what calibration reads: statements, prose and prompts to choose on, and others to be tested on."""

from collections.abc import Collection
from typing import Literal

from pipelines.behaviours.behaviour import Behaviour
from pipelines.calibrate.effects import MeasuredProse, Texts
from pipelines.calibrate.writing import Writing
from pipelines.statements.labelled import LabelledStatements
from pipelines.statements.prose import prose_for
from pipelines.sweep.halves import calibration_halves
from pipelines.sweep.protocol import FittingProtocol
from serving.model.language_model import LanguageModel

PROSE_SENTENCES = 100
"""In each half: a perplexity ratio is known to a percent or two, since both models read the same."""

PROMPTS = 120
"""To write answers to in each half, where a behaviour has so many."""
HALVES: tuple[Literal["validation", "test"], ...] = ("validation", "test")


def prose_halves(
    model: LanguageModel, seen: Collection[str], layers: Collection[int]
) -> tuple[MeasuredProse, MeasuredProse]:
    """Validation and test prose, none of it among the ``seen`` texts, read unsteered; ``layers`` will be steered."""
    validation, test = (MeasuredProse.measured(model, prose_for(use, seen)[:PROSE_SENTENCES], layers) for use in HALVES)
    return validation, test


def measured_halves(
    model: LanguageModel,
    statements: LabelledStatements,
    prose: tuple[MeasuredProse, MeasuredProse],
    protocol: FittingProtocol,
    behaviour: Behaviour | None = None,
    layers: Collection[int] = (),
) -> tuple[Texts, Texts]:
    """Validation and test, read unsteered, each with its ``prose``; ``layers`` will be steered.

    With a ``behaviour`` each has prompts of it too.
    """
    halves: list[Texts] = []
    for use, half, of_half in zip(HALVES, calibration_halves(statements, protocol), prose, strict=True):
        writing = None
        if behaviour is not None:
            writing = Writing.measured(model, behaviour, behaviour.of(use, PROMPTS), always=use == "test")
        halves.append(Texts.measured(model, half.texts, half.labels, half.groups, of_half, writing, layers))
    validation, test = halves
    return validation, test
