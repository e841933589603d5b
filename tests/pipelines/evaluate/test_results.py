"""The verdict as a table: every rule that decides, and a mutant of each that the table tells from it."""

import numpy as np
import pytest

from pipelines.estimators.estimate import Estimate
from pipelines.evaluate import results, significance
from pipelines.evaluate.conditions import Condition
from pipelines.evaluate.failings import says
from pipelines.evaluate.measurement import mean_of
from pipelines.evaluate.results import Row, verdicts_of
from pipelines.evaluate.significance import Comparison
from pipelines.evaluate.tables import summary
from tests.mutants import mutant


def row(kind, dimension="toxicity", low=0.4, value=0.5, p=0.01, metric="preference", scored=None):
    measurement = mean_of(scored or dimension, metric, [0.0, 1.0], np.arange(2), 1)
    estimate = Estimate(value, low, value + 0.1, 50)
    return Row(Condition(kind, dimension), measurement, Comparison(estimate, estimate, p, None, None))


def rows(dimensions, perplexity=1.05, random=(0.1, -0.3), **headline):
    found = [row("base", "", metric="perplexity", scored="fluency", value=10.0)]
    for dimension in dimensions:
        found += [
            row("vector", dimension, **headline),
            row("vector", dimension, metric="perplexity", scored="fluency", value=10.0 * perplexity),
            row("vector", dimension, scored="another dimension", low=-9.0, p=1.0),
            *(row("random", dimension, value=each, low=each - 0.2) for each in random),
        ]
    return found


WORKS = {
    "all rules are met": (dict(), True),
    "p of one dimension is just below .05": (dict(p=0.049), True),
    "p is .05": (dict(p=0.05), False),
    "the interval reaches 0": (dict(low=0.0, random=(-1.0,)), False),
    "the interval's end lies below a random direction, its value above": (dict(low=0.25, random=(0.1, 0.3)), False),
    "the interval's end lies just above the largest random direction": (dict(low=0.31, random=(0.1, 0.3)), True),
    "no random direction was drawn": (dict(random=()), False),
    "perplexity is 1.10 times": (dict(perplexity=1.10), True),
    "perplexity is over 1.10 times": (dict(perplexity=1.101), False),
}


def check_table(module=results):
    for name, (case, works) in WORKS.items():
        assert [verdict.works for verdict in module.verdicts_of(rows(["toxicity"], **case))] == [works], name
    three = module.verdicts_of(rows(["toxicity", "privacy", "fairness"], p=0.02))
    assert [verdict.p for verdict in three] == pytest.approx([0.06] * 3)
    assert not any(verdict.works for verdict in three)
    mixed = [*rows(["toxicity"], random=(9.0,)), *rows(["privacy"], random=(0.0,))]
    assert [verdict.works for verdict in module.verdicts_of(mixed)] == [False, True]


def test_every_rule_of_the_verdict_decides():
    check_table()


def test_a_vector_that_does_not_work_says_why():
    cases = {
        "yes": {},
        "no: the change may be chance": dict(p=0.05),
        "no: a random direction may do as much": dict(random=(0.9,)),
        "no: too few to tell: 0 random directions": dict(random=()),
        "no: perplexity rises by more than 10%": dict(perplexity=1.2),
        "no: the change may be chance, perplexity rises by more than 10%": dict(p=0.05, perplexity=1.2),
    }
    for expected, case in cases.items():
        (verdict,) = verdicts_of(rows(["toxicity"], **case))
        assert says(verdict.failings) == expected
        assert summary([verdict], []).splitlines()[2].endswith(f"x  {expected}")


MUTANTS = {
    "without Holm": ("holm([row.comparison.p for row in champions])", "[row.comparison.p for row in champions]"),
    "a looser level": ("ALPHA = 0.05", "ALPHA = 0.051"),
    "without the interval": (" and self.row.comparison.difference.low > 0", ""),
    "without random directions": ("random: self.beats_random", "random: True"),
    "the value against random directions": ("difference.low > max(", "difference.value > max("),
    "against the least random direction": ("> max(self.random)", "> min(self.random)"),
    "without any random direction": ("bool(self.random) and", "not self.random or"),
    "random directions of all dimensions": (" and other.condition.dimension == row.condition.dimension", ""),
    "without the cost": ("TOO_COSTLY: self.is_cheap", "TOO_COSTLY: True"),
    "the cost at the limit": ("self.perplexity_ratio <= CHEAP", "self.perplexity_ratio < CHEAP"),
    "any dimension's statements": (" and row.condition.dimension == row.measurement.dimension", ""),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_the_table_tells_a_mutant_from_the_verdict(name):
    with mutant(results, *MUTANTS[name]) as changed, pytest.raises(AssertionError):
        check_table(changed)


@pytest.mark.parametrize(
    ("passage", "replacement"),
    [
        ("np.arange(len(p_values), 0, -1)", "len(p_values)"),
        ("np.maximum.accumulate(scaled)", "scaled"),
    ],
)
def test_holm_is_neither_bonferroni_nor_unordered(passage, replacement):
    p_values, adjusted = [0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]
    assert significance.holm(p_values) == pytest.approx(adjusted)
    with mutant(significance, passage, replacement) as changed:
        assert changed.holm(p_values) != pytest.approx(adjusted)


def test_no_vector_has_no_verdict():
    assert verdicts_of(rows([])) == []
