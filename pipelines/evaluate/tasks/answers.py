"""Answers that a model writes to a question: parsed strictly, and counted as wrong where nothing can be parsed.

Nothing is guessed: an unreadable answer is a parse failure, and its rate stands beside the accuracy, as do the
majority-class rate and the share of the commonest answer, which give away who answers without looking.
"""

import re
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int64

from pipelines.evaluate.measurement import Measurement, commonest_share, mean_of
from pipelines.evaluate.tasks.task import ANSWER_TOKENS, Task, TaskReading

UNREADABLE = "unreadable"


def asked_task(
    name: str,
    dimension: str,
    question: str,
    words: tuple[str, str],
    texts: Sequence[str],
    labels: Bool[np.ndarray, " n"],
    groups: Int64[np.ndarray, " n"],
) -> Task:
    """Ask of each text whether ``words[0]`` (label 1) or ``words[1]`` (label 0) holds, and read the answer."""
    prompts = tuple(question.format(text=text) for text in texts)
    gold = [words[0] if label else words[1] for label in labels]

    def measure(reading: TaskReading) -> tuple[Measurement, ...]:
        return answer_measurements(name, dimension, reading.continuations, gold, words, groups)

    return Task(name, dimension, measure, prompts=prompts, tokens=ANSWER_TOKENS, asks=True)


def answer_measurements(
    name: str,
    dimension: str,
    replies: Sequence[str],
    gold: Sequence[str],
    words: Sequence[str],
    groups: np.ndarray,
) -> tuple[Measurement, ...]:
    """Accuracy with unreadable answers counted as wrong, their rate, and what a constant answer would have scored."""
    answers = tuple(parse_answer(reply, words) for reply in replies)
    right = [answer == label for answer, label in zip(answers, gold, strict=True)]
    unreadable = [answer == UNREADABLE for answer in answers]
    majority = np.full(len(gold), commonest_share(gold))
    return (
        mean_of(dimension, f"{name} accuracy", right, groups, 1, answers=answers),
        mean_of(dimension, f"{name} parse failures", unreadable, groups, -1),
        mean_of(dimension, f"{name} majority class", majority, groups, 0),
    )


def parse_answer(reply: str, words: Sequence[str]) -> str:
    """The first of ``words`` that stands in the reply as a word of its own, or ``unreadable``."""
    match = re.search(r"\b(" + "|".join(re.escape(word) for word in words) + r")\b", reply, re.IGNORECASE)
    return match.group(1).lower() if match else UNREADABLE
