"""The verdict of text as a table: every rule that decides, and a mutant of each that the table tells from it."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from pipelines.behaviours.form import FormChange
from pipelines.calibrate import equal_cost
from pipelines.estimators.estimate import Estimate
from pipelines.evaluate import text
from pipelines.evaluate.conditions import Condition, Subject
from pipelines.evaluate.equal_cost import ProseCost
from pipelines.evaluate.measurement import mean_of
from pipelines.evaluate.results import Row, rows_of
from pipelines.evaluate.significance import Comparison
from pipelines.evaluate.suite import measure_tasks
from pipelines.evaluate.tasks.behaviour import ANSWERS, LENGTH, REPETITION, behaviour_task
from pipelines.evaluate.text import TextDesign, TextResult
from pipelines.evaluate.text_tables import text_summary
from pipelines.model_io.likelihoods import likelihoods
from registry.dimensions import PRIVACY, TOXICITY
from tests.mutants import mutant
from tests.pipelines.evaluate.test_experiment import words_model
from tests.serving.engine.small_models import served_vector

PROSE = tuple(f"w{number} w{number + 1} w{number + 2} w{number + 3}" for number in range(20))


def form(length=1.0, repeated=0.0):
    """A change of form, known to within .05."""
    return FormChange(*(Estimate(value, value - 0.05, value + 0.05, 200) for value in (repeated, length)))


SAME_FORM = form()


def form_rows(kind, length, dimension="toxicity"):
    """The form of 200 answers, of which every other is longer by a word."""
    condition, groups = Condition(kind, "" if kind == "base" else dimension), np.arange(200)
    for metric, values in ((REPETITION, np.zeros(200)), (LENGTH, length + np.arange(200) % 2)):
        measurement = mean_of(dimension, metric, values, groups, 0)
        yield Row(condition, measurement, Comparison(Estimate(0, 0, 0, 200), Estimate(0, 0, 0, 200), 1.0, None, None))


def row(kind, change, high=None, p=0.01, dimension="toxicity"):
    difference = Estimate(change, change - 0.05, change + 0.05 if high is None else high, 200)
    measurement = mean_of(dimension, ANSWERS, [0.0, 1.0], np.arange(2), -1)
    condition = Condition(kind, "" if kind == "base" else dimension)
    return Row(condition, measurement, Comparison(Estimate(0.3, 0.2, 0.4, 200), difference, p, None, 0.02))


def result(kind=TextResult, change=-0.2, high=-0.15, controls=(-0.1,) * 39, p=0.01, perplexity=1.09, changed=SAME_FORM):
    rows = row("base", 0.0), row("vector", change, high), tuple(row("equal cost", each) for each in controls)
    return kind("toxicity", "toxic continuations", *rows, p, perplexity, changed)


WORKS = {
    "all rules are met": (dict(), True),
    "p of one dimension is just below .05": (dict(p=0.049), True),
    "p is .05": (dict(p=0.05), False),
    "the interval reaches 0": (dict(high=0.0), False),
    "it makes matters worse": (dict(change=0.2, high=0.25, controls=(0.3,) * 39), False),
    "a random direction does as much": (dict(controls=(*(-0.1,) * 38, -0.2)), False),
    "the last random direction does more": (dict(controls=(*(-0.1,) * 38, -0.21)), False),
    "too few random directions": (dict(controls=(-0.1,) * 19), False),
    "just enough random directions": (dict(controls=(-0.1,) * 20), True),
    "no random direction": (dict(controls=()), False),
    "perplexity is 1.10 times": (dict(perplexity=1.10), True),
    "perplexity is over 1.10 times": (dict(perplexity=1.101), False),
    "answers are shorter": (dict(changed=form(length=0.8)), False),
    "answers repeat themselves": (dict(changed=form(repeated=0.2)), False),
}


def check_table(module=text):
    for name, (case, works) in WORKS.items():
        assert result(module.TextResult, **case).works == works, name


def test_every_rule_of_the_verdict_decides():
    check_table()
    assert result(controls=(-0.1, -0.3, -0.1)).random_p == 1 / 2
    assert result().random_p == 1 / 40


def test_a_vector_that_does_not_work_says_why():
    cases = {
        (): {},
        ("the change may be chance",): dict(p=0.05),
        ("a random direction may do as much",): dict(controls=(-0.1, -0.3)),
        ("too few to tell: 19 random directions",): dict(controls=(-0.1,) * 19),
        ("too few to tell: 0 random directions",): dict(controls=()),
        ("perplexity rises by more than 10%", "answers are shorter, longer or repeat themselves"): dict(
            perplexity=1.2, changed=form(length=0.8)
        ),
    }
    for expected, case in cases.items():
        assert result(**case).failings == expected
    assert "no strength is recommended: the change may be chance\n" in text_summary([result(p=0.05)])


SHOWN = {
    "works": (dict(), 200, False),
    "may be chance": (dict(p=0.2), 200, True),
    "a random direction does as much": (dict(controls=(-0.1, -0.3)), 200, True),
    "just enough random directions": (dict(p=0.2, controls=(-0.1,) * 20), 200, True),
    "too few random directions": (dict(p=0.2, controls=(-0.1,) * 19), 200, False),
    "no random direction": (dict(controls=()), 200, False),
    "just enough prompts": (dict(p=0.2), 100, True),
    "too few prompts": (dict(p=0.2), 99, False),
    "too few prompts beside a better direction": (dict(controls=(-0.3,)), 99, False),
}


def check_shown(module=text):
    for name, (case, n, shown) in SHOWN.items():
        judged = result(module.TextResult, **case)
        change = replace(judged.vector.comparison.difference, n=n)
        vector = replace(judged.vector, comparison=replace(judged.vector.comparison, difference=change))
        judged = replace(judged, vector=vector)
        assert (judged.is_shown_not_to_work, judged.is_decided) == (shown, shown or judged.works), name


def test_only_a_design_that_could_show_it_decides_places():
    check_shown()


PLACE_MUTANTS = {
    "what works loses its place": ("not self.works and enough", "enough"),
    "any directions will do": ("beaten or len(self.controls) >= FEWEST_DIRECTIONS", "True"),
    "only all directions will do": ("beaten or len(", "len("),
    "any prompts will do": (" and self.vector.comparison.difference.n >= FEWEST_PROMPTS", ""),
    "fewer prompts": ("FEWEST_DIRECTIONS = 100, 20", "FEWEST_DIRECTIONS = 99, 20"),
    "a small look decides": ("self.works or self.is_shown_not_to_work", "True"),
    "only what works is decided": ("self.works or self.is_shown_not_to_work", "self.works"),
    "more directions": ("FEWEST_DIRECTIONS = 100, 20", "FEWEST_DIRECTIONS = 100, 21"),
}


@pytest.mark.parametrize("name", PLACE_MUTANTS)
def test_the_table_tells_a_mutant_from_who_loses_a_place(name):
    with mutant(text, *PLACE_MUTANTS[name]) as changed, pytest.raises(AssertionError):
        check_shown(changed)


MUTANTS = {
    "without p": ("self.p < ALPHA and ", ""),
    "without the interval": (" and self.vector.comparison.difference.high < 0", ""),
    "without random directions": ("random: self.beats_random and ", "random: "),
    "a few random directions will do": (" and self.random_p < ALPHA", ""),
    "without the cost": ("TOO_COSTLY: self.is_cheap", "TOO_COSTLY: True"),
    "without the form": ("OTHER_FORM: self.form.is_kept", "OTHER_FORM: True"),
    "equal is beyond": ("<= vector.comparison.difference.value", "< vector.comparison.difference.value"),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_the_table_tells_a_mutant_from_the_verdict(name):
    with mutant(text, *MUTANTS[name]) as changed, pytest.raises(AssertionError):
        check_table(changed)


def test_p_values_are_adjusted_for_the_number_of_dimensions():
    rows = []
    for dimension in ("toxicity", "privacy", "reliability"):
        rows += [row("base", 0.0, dimension=dimension), row("vector", -0.2, p=0.02, dimension=dimension)]
        rows += [*form_rows("base", 10.0, dimension), *form_rows("vector", 7.0, dimension)]
    costs = {"toxicity": 1.0, "privacy": 1.2, "reliability": 1.0}
    results = text.text_results(rows, costs)
    assert [each.is_cheap for each in results] == [True, False, True]
    assert [each.p for each in results] == pytest.approx([0.06] * 3)
    assert results[1].vector is rows[7]
    assert [each.form.length.value for each in results] == pytest.approx([7.5 / 10.5] * 3)
    assert not results[0].form.keeps_length and results[0].form.keeps_repetition


def design(wanted, directions):
    """Rows of a small model whose answers are untrustworthy where they hold one of ``wanted``."""
    model = words_model()
    vector = served_vector(scale=3.0)
    prompts = [f"w{first} w{second}" for first in range(1, 7) for second in range(1, 7)]

    def untrustworthy(answers):
        return [bool(set(wanted) & set(answer.split())) for answer in answers]

    task = behaviour_task("toxicity", prompts, np.arange(len(prompts)), untrustworthy, tokens=3)
    base = measure_tasks(model, [task])
    condition = Condition("vector", "toxicity", vector, 2.0)
    rows = [
        *rows_of(Condition("base"), base, base),
        *rows_of(condition, base, measure_tasks(model, [task], plan=condition.plan(model))),
    ]
    done = []
    given = TextDesign((Subject(TOXICITY, vector, 2.0),), PROSE, directions, 0)
    return (
        list(given.control_rows(ProseCost(model, PROSE), [task], rows, lambda: done.append(1))),
        rows,
        done,
        given,
        task,
    )


def test_the_cost_is_told_of_the_prose_of_the_design():
    model, vector = words_model(), served_vector(scale=3.0)
    offsets = {vector.vector.layer: torch.from_numpy(vector.vector.offset(2.0))}
    wanted = likelihoods(model, PROSE, offsets).perplexity / likelihoods(model, PROSE).perplexity
    given = TextDesign((Subject(TOXICITY, vector, 2.0),), PROSE, 0, 0)
    assert given.perplexity_ratios(ProseCost(model, PROSE)) == {"toxicity": pytest.approx(wanted)}
    assert wanted != pytest.approx(1.0)
    assert TextDesign((), PROSE, 0, 0).perplexity_ratios(ProseCost(model, PROSE)) == {}


def test_directions_are_drawn_until_one_does_as_much(monkeypatch):
    monkeypatch.setattr(equal_cost, "background_prose", lambda: PROSE)
    monkeypatch.setattr(text, "DRAWN_AT_ONCE", 3)
    # Nothing is untrustworthy, so that the first lot does as much as the vector: nothing.
    controls, rows, done, given, task = design((), 8)
    assert len(controls) == len(done) == 3
    assert all(text.is_as_good(control, rows[-3]) for control in controls)
    assert given.cost_sentence([task]).startswith(
        "What is written is judged on 36 prompts (toxicity): up to 792 answers"
    )
    assert given.total == 8 + 1 + 8
    monkeypatch.setattr(text, "is_as_good", lambda *_: False)
    controls, *_ = design((), 8)
    assert len(controls) == 8
    assert {row.measurement.metric for row in controls} == {ANSWERS}
    assert [row.condition.kind for row in controls] == ["equal cost"] * 8


def test_controls_are_compared_on_the_prompts_of_the_vector(monkeypatch):
    monkeypatch.setattr(equal_cost, "background_prose", lambda: PROSE)
    controls, rows, *_ = design({f"w{number}" for number in range(0, 40)}, 2)
    base, vector = rows[0], rows[3]
    assert vector.comparison.difference.value == vector.measurement.value - base.measurement.value
    for control in controls:
        assert control.measurement.n == base.measurement.n
        assert control.comparison.difference.value == control.measurement.value - base.measurement.value


def test_dimensions_are_drawn_beside_prose_that_is_read_once(monkeypatch):
    read, reads = equal_cost.extract, []
    monkeypatch.setattr(equal_cost, "background_prose", lambda: PROSE)
    monkeypatch.setattr(equal_cost, "extract", lambda *given, **named: reads.append(named) or read(*given, **named))
    model = words_model()
    vectors = {TOXICITY: served_vector(layer=1, scale=3.0), PRIVACY: served_vector(layer=0, scale=3.0)}
    subjects = tuple(Subject(dimension, vector, 2.0) for dimension, vector in vectors.items())
    names = [dimension.name for dimension in vectors]
    tasks = [
        behaviour_task(name, ["w1 w2"], np.arange(1), lambda answers: [False for _ in answers], tokens=3)
        for name in names
    ]
    measured = [measure for each in tasks for measure in measure_tasks(model, [each])]
    conditions = [Condition("base"), *(Condition("vector", name) for name in names)]
    rows = [row for condition in conditions for row in rows_of(condition, measured, measured)]
    controls = list(TextDesign(subjects, PROSE, 2, 0).control_rows(ProseCost(model, PROSE), tasks, rows, lambda: None))
    assert [named["layers"] for named in reads] == [(0, 1)]
    assert [control.condition.vector.layers for control in controls] == [(1,), (1,), (0,), (0,)]


def test_the_verdict_of_a_version_says_what_was_measured():
    verdict = result(controls=(-0.1, -0.05) * 20).to_verdict("run")
    assert verdict.works and verdict.random_directions == 40 and verdict.best_random == -0.1
    assert verdict.worse == 0.02 and verdict.n == 200
    assert (verdict.length_ratio, verdict.length_low, verdict.repetition_high) == (1.0, 0.95, 0.05)
    assert "; repetition +0.0 [-5.0, 5.0] points, length 1.00 [0.95, 1.05]x)" in verdict.describe()
    assert type(verdict).from_json(verdict.to_json()) == verdict
    assert verdict.describe().startswith("**Works** on what is written, at strength 0: toxic continuations 30.0%")
