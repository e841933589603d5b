"""Checkpoints in MLflow: the columns that tell them apart in every table, and their places on curves over training.

Stages of a series count their steps anew, so that a step alone names several checkpoints.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from pipelines.tracking.runs import Point
from registry.checkpoints import Checkpoint

_FIRST, _LAST = ("model", "revision", "step"), ("stage", "ingredient", "tokens")


def checkpoint_columns(*measured: str) -> tuple[str, ...]:
    """The columns of a table of checkpoints: whose row it is, what was ``measured``, and the place in training."""
    return (*_FIRST, *measured, *_LAST)


def checkpoint_table(rows: Iterable[tuple[Checkpoint, Sequence[object]]], columns: Sequence[str]) -> pd.DataFrame:
    """A table of ``checkpoint_columns``; the rows hold what was measured."""
    cells = []
    for checkpoint, row in rows:
        told = checkpoint.as_columns()
        cells.append((*(told[name] for name in _FIRST), *row, *(told[name] for name in _LAST)))
    whole = dict.fromkeys(("step", "ingredient", "tokens"), "Int64")
    return pd.DataFrame(cells, columns=list(columns)).astype(whole)


def step_label(checkpoint: Checkpoint) -> str:
    """The step alone where there is one stage; stages count theirs anew."""
    return checkpoint.caption if checkpoint.line else f"{checkpoint.step:,}"


def checkpoint_names(table: pd.DataFrame) -> list[str]:
    """The name of each row's checkpoint within its series: stage and revision, for stages may have revisions alike.

    A revision that names its stage is not told it twice. Tables of older versions tell the revision alone.
    """
    revisions = list(table["revision"].astype(str))
    if "stage" not in table:
        return revisions
    stages = [" ".join(map(str, _told(stage))) for stage in table["stage"]]
    ingredients = [" ".join(f"ingredient{int(number)}" for number in _told(cell)) for cell in table["ingredient"]]
    whole = [" ".join(filter(None, names)) for names in zip(stages, ingredients, revisions, strict=True)]
    short = [
        revision if f"{revision}-".startswith(f"{stage}-") else name
        for stage, revision, name in zip(stages, revisions, whole, strict=True)
    ]
    return short if len(set(short)) == len(set(whole)) else whole


def _told(cell: Any) -> list[Any]:
    """A cell of a table that was read from a file, where empty ones are not numbers."""
    return [] if pd.isna(cell) or cell == "" else [cell]


def curve_points(
    measured: Iterable[tuple[Checkpoint, str, Mapping[str, float]]], first_line: str | None = None
) -> list[Point]:
    """Points of curves over training, of values by checkpoint and prefix; the random initialisation is none.

    Those of ``first_line`` (that of the first checkpoint) are called ``toxicity/accuracy``, others by their stage too,
    ``sft/toxicity/accuracy``: MLflow shows the values of one name and step as one curve.
    """
    trained = [each for each in measured if not each[0].is_random_init]
    plain = trained[0][0].line if trained and first_line is None else first_line
    points = []
    for checkpoint, prefix, values in trained:
        place = prefix if checkpoint.line == plain else f"{checkpoint.line}/{prefix}"
        points += [(f"{place}/{name}", value, checkpoint.step) for name, value in values.items()]
    return points
