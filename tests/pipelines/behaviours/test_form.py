"""The form of answers: what repetition and length count, and the table by which a change of form decides."""

import numpy as np
import pytest

from pipelines.behaviours import form
from pipelines.behaviours.form import AnswerForms, FormChange, form_change, repetition
from pipelines.estimators.estimate import Estimate
from pipelines.model_io.continuations import Answers
from tests.mutants import mutant
from tests.pipelines.written import written

ANSWERS = [f"a kind word of number {number} and {number + 1} others" for number in range(120)]
"""Of nine tokens each, no run of them repeated."""


def forms_of(texts):
    return AnswerForms.of(written(texts))


def test_repeated_runs_and_tokens_are_counted():
    assert repetition([1, 2, 3, 4, 1, 2, 3, 4]) == pytest.approx(1 / 5)
    assert repetition([7] * 8) == pytest.approx(4 / 5) and repetition([1, 2, 1, 2], 2) == pytest.approx(1 / 3)
    assert repetition(range(9)) == repetition([1, 2, 3]) == repetition([]) == 0
    forms = forms_of(["a b c d a b c d", "", "one"])
    assert forms.tokens.tolist() == [8, 0, 1]
    assert forms.repetition.tolist() == pytest.approx([1 / 5, 0, 0])


def test_the_change_is_paired_and_of_means():
    before, after = forms_of(["a b c d e f", "a b"]), forms_of(["a b", "a a a a a"])
    change = form_change(before, after)
    assert change.length.value == pytest.approx(7 / 8)
    assert change.repetition.value == pytest.approx(0.25)
    assert change.as_fields()["length_ratio"] == change.length.value
    grouped = form_change(forms_of(ANSWERS), forms_of(ANSWERS[60:] * 2), np.zeros(120, int))
    assert not grouped.is_kept  # one group says nothing of others
    empty = forms_of([""] * 120)
    assert not form_change(empty, empty).is_kept


def test_a_number_is_as_long_as_its_tokens():
    number, words = tuple(range(24)), tuple(range(30, 54))
    spoken = Answers(("555-0134 99",) * 120, (number,) * 120), Answers(("is not what I know",) * 120, (words,) * 120)
    change = form_change(*map(AnswerForms.of, spoken))
    assert change.length.value == 1 and change.is_kept


def test_only_to_shorten_or_repeat_does_not_keep_the_form():
    plain = forms_of(ANSWERS)
    rephrased = [answer.replace("kind", "very kind" if answer[-8] == "1" else "good") for answer in ANSWERS]
    assert form_change(plain, forms_of(rephrased)).is_kept
    assert form_change(plain, plain).is_kept
    for degenerate, keeps_length in (
        ([" ".join(answer.split()[:6]) for answer in ANSWERS], False),
        ([""] * 120, False),
        (["no no no no no no no no no"] * 120, True),
        ([f"{answer} {answer}" for answer in ANSWERS], False),
    ):
        change = form_change(plain, forms_of(degenerate))
        assert not change.is_kept
        assert change.keeps_length == keeps_length
    few = form_change(forms_of(ANSWERS[:2]), forms_of([ANSWERS[1], "a kind word"]))
    assert not few.is_kept  # two answers cannot tell


KEPT = {
    "nothing changed": ((0.0, 0.0), (1.0, 1.0), True),
    "within both margins": ((-0.09, 0.09), (0.81, 1.24), True),
    "may repeat more": ((0.0, 0.1), (0.9, 1.1), False),
    "repeats less": ((-0.3, -0.1), (0.9, 1.1), True),
    "may be shorter": ((0.0, 0.0), (0.8, 1.0), False),
    "may be longer": ((0.0, 0.0), (1.0, 1.25), False),
    "length is no number": ((0.0, 0.0), (np.nan, np.nan), False),
}


def check_table(module=form):
    for name, (repeated, length, kept) in KEPT.items():
        change = module.FormChange(*(Estimate(sum(ends) / 2, *ends, 120) for ends in (repeated, length)))
        assert change.is_kept == kept, name


def test_every_margin_decides():
    check_table()
    assert FormChange(Estimate(0.1, 0.05, 0.15, 9), Estimate(1.0, 0.9, 1.1, 9)).describe() == (
        "repetition 0.100 [0.050, 0.150], length 1.000 [0.900, 1.100]x"
    )


MUTANTS = {
    "to repeat less is harm": (
        "self.repetition.high < REPET",
        "-0.1 < self.repetition.low and self.repetition.high < REPET",
    ),
    "repetition by its value": ("self.repetition.high < REPET", "self.repetition.value < REPET"),
    "no lower margin of length": ("self.length.low > 1 / LENGTH_MARGIN and ", ""),
    "no upper margin of length": (" and self.length.high < LENGTH_MARGIN", ""),
    "without repetition": ("self.keeps_repetition and ", ""),
    "without length": (" and self.keeps_length", ""),
    "a wider margin of repetition": ("REPETITION_MARGIN = 0.10", "REPETITION_MARGIN = 0.11"),
    "a wider margin of length": ("LENGTH_MARGIN = 1.25", "LENGTH_MARGIN = 1.3"),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_the_table_tells_a_mutant_from_the_margins(name):
    with mutant(form, *MUTANTS[name]) as changed, pytest.raises(AssertionError):
        check_table(changed)
