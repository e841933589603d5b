"""Choices between whole texts by their likelihood: no answer has to be generated, parsed or judged."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64
from scipy.optimize import linear_sum_assignment

from pipelines.evaluate.measurement import Measurement, margin_of, mean_of
from pipelines.evaluate.tasks.task import Task, TaskReading
from pipelines.statements.labelled import LabelledStatements


@dataclass(frozen=True)
class ChoiceQuestion:
    """One item: texts of which one is to be chosen."""

    options: tuple[str, ...]
    wanted: tuple[bool, ...]
    group: int
    context: str = ""
    """What all options begin with; where it is given, options are compared by nats per character of what follows it."""


def choice_task(name: str, dimension: str, choices: Sequence[ChoiceQuestion]) -> Task:
    """How often the likeliest option is a wanted one, and the probability of the wanted options among all.

    The first is ``<name> accuracy`` where every item has one wanted option. With several it is not TruthfulQA's MC1,
    which knows one best answer, and is called ``<name> likeliest is true``. ``<name> mass`` is its MC2.
    """
    single = all(sum(choice.wanted) == 1 for choice in choices)
    first = f"{name} accuracy" if single else f"{name} likeliest is true"

    def measure(reading: TaskReading) -> tuple[Measurement, ...]:
        chosen = [int(np.argmax(scores)) for scores in scores_of(choices, reading)]
        masses = [
            _mass(scores, choice.wanted) for choice, scores in zip(choices, scores_of(choices, reading), strict=True)
        ]
        right = [choice.wanted[place] for choice, place in zip(choices, chosen, strict=True)]
        groups = np.array([choice.group for choice in choices])
        return (
            mean_of(dimension, first, right, groups, 1, answers=_letters(choices, chosen)),
            mean_of(dimension, f"{name} mass", masses, groups, 1),
        )

    return Task(name, dimension, measure, texts=texts_of(choices))


def statements_task(statements: LabelledStatements) -> Task:
    """How far a model prefers the trustworthy among held-out statements, over all of them and pair by pair."""
    dimension, labels, groups = statements.dimension, statements.labels, statements.groups
    pairs = minimal_pairs(statements)
    pair_groups = np.array([group for _, _, group in pairs])

    def measure(reading: TaskReading) -> tuple[Measurement, ...]:
        likely = reading.log_probabilities
        margins = [likely[good] - likely[bad] for good, bad, _ in pairs]
        return (
            margin_of(dimension, "preference", likely, labels, groups),
            mean_of(dimension, "pairs margin", margins, pair_groups, 1),
            mean_of(dimension, "pairs accuracy", np.greater(margins, 0), pair_groups, 1),
        )

    return Task("statements", dimension, measure, texts=statements.texts, held_out_statements=True)


def texts_of(choices: Sequence[ChoiceQuestion]) -> tuple[str, ...]:
    """The texts that ``scores_of`` needs read, in its order."""
    return tuple(
        text for choice in choices for text in (*choice.options, *((choice.context,) if choice.context else ()))
    )


def scores_of(choices: Sequence[ChoiceQuestion], reading: TaskReading) -> Iterator[Float64[np.ndarray, " options"]]:
    """The log-probability of every option of every choice; by character of what follows a context, where one is."""
    start = 0
    for choice in choices:
        stop = start + len(choice.options)
        scores = reading.log_probabilities[start:stop]
        if choice.context:
            lengths = np.array([len(option) - len(choice.context) for option in choice.options])
            scores = (scores - reading.log_probabilities[stop]) / lengths
            stop += 1
        yield scores
        start = stop


def minimal_pairs(statements: LabelledStatements) -> list[tuple[int, int, int]]:
    """``(trustworthy row, untrustworthy row, group)``: pairs that differ in as few words as can be.

    Statements are paired within their group; groups that hold one class only are first paired with one another.
    Which pairs belong together follows from that, so that they can be resampled as one.
    """
    trustworthy: list[Int64[np.ndarray, " a"]] = []
    untrustworthy: list[Int64[np.ndarray, " b"]] = []
    parties: list[tuple[Int64[np.ndarray, " a"], Int64[np.ndarray, " b"]]] = []
    for group in np.unique(statements.groups):
        rows = np.flatnonzero(statements.groups == group)
        good, bad = rows[statements.labels[rows]], rows[~statements.labels[rows]]
        if len(good) and len(bad):
            parties.append((good, bad))
        else:
            (trustworthy if len(good) else untrustworthy).append(rows)
    parties += list(zip(trustworthy, untrustworthy, strict=False))
    pairs = []
    for number, (good, bad) in enumerate(parties):
        shared = [[_shared_words(statements.texts[first], statements.texts[two]) for two in bad] for first in good]
        for first, two in zip(*linear_sum_assignment(shared, maximize=True), strict=True):
            pairs.append((int(good[first]), int(bad[two]), number))
    return pairs


def _shared_words(left: str, right: str) -> int:
    """Words that the two texts share at their beginnings and at their ends."""
    first, second = left.split(), right.split()
    shorter = min(len(first), len(second))
    head = _agreeing(first, second, shorter)
    return head + _agreeing(first[::-1], second[::-1], shorter - head)


def _agreeing(first: list[str], second: list[str], longest: int) -> int:
    return next((place for place in range(longest) if first[place] != second[place]), longest)


def _mass(scores: Float64[np.ndarray, " options"], wanted: Sequence[bool]) -> float:
    weights = np.exp(scores - scores.max())
    chosen: Bool[np.ndarray, " options"] = np.array(wanted)
    return float(weights[chosen].sum() / weights.sum())


def _letters(choices: Sequence[ChoiceQuestion], chosen: Sequence[int]) -> tuple[str, ...]:
    """The chosen options as letters; none where the wanted one always stands first and a letter tells nothing."""
    if all(choice.wanted[0] for choice in choices):
        return ()
    return tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ"[place % 26] for place in chosen)
