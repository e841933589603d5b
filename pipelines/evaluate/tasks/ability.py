"""General ability: packaged multiple-choice questions, by likelihood; and the same questions mistyped, for robustness.

PIQA's goals ask which of two ways works, OpenBookQA's questions are of elementary science with four answers,
CommonsenseQA's of everyday things with five.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import cache

import numpy as np

from pipelines.evaluate.measurement import Measurement, mean_of
from pipelines.evaluate.tasks.choices import ChoiceQuestion, choice_task, scores_of, texts_of
from pipelines.evaluate.tasks.items import sample_items
from pipelines.evaluate.tasks.task import Task, TaskReading
from pipelines.statements.lexicons import choice_questions
from pipelines.statements.perturbations import keyboard_typos
from registry.dimensions import ROBUSTNESS

ABILITY = "ability"
"""The name of general ability in the column of dimensions; it is none."""
TYPO_RATE = 0.5
COMMONSENSE_OPTIONS = 5


def ability_tasks(limit: int) -> tuple[Task, ...]:
    return (
        choice_task("PIQA", ABILITY, sample_items(piqa(), limit)),
        choice_task("OpenBookQA", ABILITY, sample_items(openbook(), limit)),
        choice_task("CommonsenseQA", ABILITY, sample_items(commonsense(), limit)),
    )


def robustness_tasks(limit: int, seed: int = 0) -> tuple[Task, ...]:
    """PIQA with half the longer words of each goal mistyped: accuracy, and how often the choice stays the same."""
    clean = sample_items(piqa(), limit)
    rng = np.random.default_rng(seed)
    perturbed = [_perturbed(choice, lambda text: keyboard_typos(text, rng, rate=TYPO_RATE)) for choice in clean]
    texts, other_texts = texts_of(clean), texts_of(perturbed)

    def measure(reading: TaskReading) -> tuple[Measurement, ...]:
        cut = len(texts)
        likely, tokens = reading.log_probabilities, reading.tokens
        before = _chosen(clean, TaskReading(likely[:cut], tokens[:cut]))
        after = _chosen(perturbed, TaskReading(likely[cut:], tokens[cut:]))
        right = [choice.wanted[place] for choice, place in zip(perturbed, after, strict=True)]
        lost = [
            int(choice.wanted[a]) - int(choice.wanted[b]) for choice, a, b in zip(clean, before, after, strict=True)
        ]
        groups, same = np.arange(len(clean)), np.equal(before, after)
        return (
            mean_of(ROBUSTNESS.name, "mistyped PIQA accuracy", right, groups, 1),
            mean_of(ROBUSTNESS.name, "mistyped PIQA same choice", same, groups, 1),
            mean_of(ROBUSTNESS.name, "mistyped PIQA accuracy lost", lost, groups, -1),
        )

    return (Task("mistyped PIQA", ROBUSTNESS.name, measure, texts=(*texts, *other_texts)),)


def _chosen(choices: Sequence[ChoiceQuestion], reading: TaskReading) -> list[int]:
    return [int(np.argmax(scores)) for scores in scores_of(choices, reading)]


def _perturbed(choice: ChoiceQuestion, perturb: Callable[[str], str]) -> ChoiceQuestion:
    context = perturb(choice.context)
    options = tuple(context + option[len(choice.context) :] for option in choice.options)
    return ChoiceQuestion(options, choice.wanted, choice.group, context)


@cache
def piqa() -> tuple[ChoiceQuestion, ...]:
    """The validation questions (the test's answers are not public)."""
    return tuple(_questions("data/PIQA/validation.jsonl", "Goal: {question}\nAnswer:"))


@cache
def openbook() -> tuple[ChoiceQuestion, ...]:
    return tuple(_questions("data/OpenBookQA/test.jsonl", "{question}"))


@cache
def commonsense() -> tuple[ChoiceQuestion, ...]:
    """The validation questions, but for one that has its first two options in its text."""
    questions = _questions("data/CommonsenseQA/validation.jsonl", "Question: {question}\nAnswer:")
    return tuple(question for question in questions if len(question.options) == COMMONSENSE_OPTIONS)


def _questions(member: str, form: str) -> Iterator[ChoiceQuestion]:
    for number, (question, options, right) in enumerate(choice_questions(member)):
        context = form.format(question=question)
        wanted = tuple(place == right for place in range(len(options)))
        yield ChoiceQuestion(tuple(f"{context} {option}" for option in options), wanted, number, context)
