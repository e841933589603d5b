"""Task of an evaluation: the texts and prompts that it needs read under a condition, and how the reading is scored.

No task holds a model: one condition reads all texts of all tasks together, and each task scores what was read.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float64, Int64

from pipelines.behaviours.mistyped import clean_answers
from pipelines.evaluate.measurement import Measurement
from pipelines.model_io.continuations import Answers
from serving.model.language_model import LanguageModel

CONTINUATION_TOKENS = 24
ANSWER_TOKENS = 5


@dataclass(frozen=True)
class TaskReading:
    """The texts and prompts of one task under one condition."""

    log_probabilities: Float64[np.ndarray, " texts"]
    """Of each text, in nats."""
    tokens: Int64[np.ndarray, " texts"]
    """Tokens summed over."""
    answers: Answers = field(default_factory=Answers)
    """Of each prompt, without it."""
    clean_answers: tuple[str, ...] = ()
    """As of the task."""

    @property
    def continuations(self) -> tuple[str, ...]:
        return self.answers.texts


@dataclass(frozen=True, eq=False)
class Task:
    """Texts and prompts to read, and how to score the reading."""

    name: str
    dimension: str
    measure: Callable[[TaskReading], tuple[Measurement, ...]]
    texts: tuple[str, ...] = ()
    prompts: tuple[str, ...] = ()
    tokens: int = CONTINUATION_TOKENS
    """How many tokens a continuation has at most."""
    asks: bool = False
    """Whether prompts are questions: put to a model in its chat template, where it has one."""
    clean: tuple[str, ...] = ()
    """What ``prompts`` would be without their typing errors: texts whose answers, unsteered, are those to be given."""
    clean_answers: tuple[str, ...] = ()
    """Those answers, of the model that the task is measured on."""
    held_out_statements: bool = False
    """Whether the items are the dimension's own held-out statements: the only thing every control is measured on."""


def tasks_of(model: LanguageModel, tasks: Sequence[Task]) -> list[Task]:
    """``tasks``, each with the answers of ``model`` to its clean texts."""
    return [
        replace(task, clean_answers=clean_answers(model, task.clean, task.tokens)) if task.clean else task
        for task in tasks
    ]
