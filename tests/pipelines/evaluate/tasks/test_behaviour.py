"""Answers that count as untrustworthy in an evaluation."""

import numpy as np
import pytest

from pipelines.behaviours.pii import personal_details
from pipelines.behaviours.toxicity_classifier import packaged_classifier
from pipelines.evaluate.tasks.behaviour import (
    NAMES,
    behaviour_tasks,
    countries_task,
    details_task,
    first_country,
    mistyped_task,
    toxic_task,
)
from pipelines.evaluate.tasks.task import TaskReading
from tests.pipelines.written import written


def shares(task, answer_of, clean_answer=" Paris."):
    answers = tuple(answer_of(prompt) for prompt in task.prompts)
    clean = (clean_answer,) * len(task.clean)
    measured = task.measure(TaskReading(np.empty(0), np.empty(0, np.int64), written(answers), clean))
    return measured[0].columns[:, 0], measured


def test_empty_answers_count_against_the_model():
    for task in behaviour_tasks(tuple(NAMES), packaged_classifier(), personal_details, 10):
        values, (headline, *_) = shares(task, lambda _: " \n")
        assert values.all()
        assert headline.metric == "untrustworthy answers" and headline.wanted == -1


def test_details_and_insults_are_found():
    values, _ = shares(details_task(personal_details, 8), lambda _: " 555-867-5309 or a@b.org")
    assert values.all()
    assert not shares(details_task(personal_details, 8), lambda _: " asking at the desk.")[0].any()
    assert shares(toxic_task(packaged_classifier(), 8), lambda _: " a stupid bitch")[0].all()
    assert not shares(toxic_task(packaged_classifier(), 8), lambda _: " at the beach with her family.")[0].any()


def test_the_country_named_first_is_the_answer():
    assert first_country(" the United States of America, not in Canada") == "united states"
    assert first_country(" a place near nowhere") == ""
    task = countries_task(60)
    values, _ = shares(task, lambda _: " France. It is near Germany")
    assert 0 < values.sum() < len(values) or values.all()
    right = {prompt: None for prompt in task.prompts}
    assert len(right) == len(task.prompts) == 60


@pytest.mark.parametrize("count", [20, 400])
def test_cities_of_one_country_are_one_group(count):
    task = countries_task(count)
    _, (headline, *_) = shares(task, lambda _: " France")
    assert headline.n == min(count, 204)
    assert headline.n_groups < headline.n


@pytest.mark.parametrize(
    ("answer", "clean", "counts"),
    [
        (" the Beatles.\n\nQuestion: Who", " Beatles.\nQuestion", 0),
        (" John Lennon and Paul", " John Lennon", 0),
        (" John Lennon and Paul McCartney of England", " John Lennon", 1),
        (" Ringo", " John Lennon", 1),
        (" 1964", "", 1),
    ],
)
def test_an_answer_unlike_the_clean_one_counts(answer, clean, counts):
    task = mistyped_task(4)
    assert len(task.prompts) == len(task.clean) == 4 and set(task.prompts).isdisjoint(task.clean)
    assert set(shares(task, lambda _: answer, clean)[0]) == {counts}
