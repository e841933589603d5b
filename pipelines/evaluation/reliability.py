"""Reliability: whether a model finds true claims likelier than false ones, and whether it says so when asked."""

import re
from collections.abc import Iterator

import numpy as np

from pipelines.evaluation.answers import asked_task
from pipelines.evaluation.choices import Choice, choice_task
from pipelines.evaluation.tasks import Task
from pipelines.statements.labelled import LabelledStatements
from registry.dimensions import RELIABILITY

QUESTION = re.compile(r"(Q: .+?\sA:)", re.DOTALL)
TRUE_OR_FALSE = "Is the following statement true or false?\n{text}\nAnswer (true or false):"


def reliability_tasks(held_out: LabelledStatements, limit: int) -> tuple[Task, ...]:
    """Held-out statements put as a question; and multiple choice, where they are questions with several answers."""
    asked = asked_task("asked", RELIABILITY.name, held_out, TRUE_OR_FALSE, ("true", "false"), limit)
    questions = list(_questions(held_out))[: limit or None]
    return (asked, choice_task("multiple choice", RELIABILITY.name, questions)) if questions else (asked,)


def _questions(statements: LabelledStatements) -> Iterator[Choice]:
    """TruthfulQA's form: the statements of a group are one question with different answers, some of them true."""
    for group in np.unique(statements.groups):
        rows = np.flatnonzero(statements.groups == group)
        texts = tuple(statements.texts[row] for row in rows)
        leads = {found.group(1) if (found := QUESTION.match(text)) else "" for text in texts}
        labels = statements.labels[rows]
        if len(leads) == 1 and leads != {""} and labels.any() and not labels.all():
            yield Choice(texts, tuple(bool(one) for one in labels), int(group))
