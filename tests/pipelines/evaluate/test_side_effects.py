"""Side effects: what counts as unharmed, and a mutant of every rule."""

import numpy as np
import pytest

from pipelines.estimators.estimate import Estimate, mean_of_few
from pipelines.evaluate import side_effects as module
from pipelines.evaluate.conditions import Condition
from pipelines.evaluate.measurement import mean_of
from pipelines.evaluate.options import EvaluateOptions
from pipelines.evaluate.results import Row
from pipelines.evaluate.side_effects import Margins, equivalence, side_effect_lines, side_effect_table, unharmed_cell
from pipelines.evaluate.significance import Comparison
from registry.errors import InvalidInput
from tests.mutants import mutant

MARGINS = Margins(nats=0.5, accuracy=0.1)


def row(low, high, scored="privacy", metric="preference", kind="vector", steered="toxicity"):
    measurement = mean_of(scored, metric, [0.0, 1.0], np.arange(2), 1)
    estimate = Estimate((low + high) / 2, low, high, 60)
    return Row(Condition(kind, steered), measurement, Comparison(estimate, estimate, 0.5, None, None))


ROWS = {
    "within": (row(-0.4, 0.4), "unharmed"),
    "a small but certain change": (row(0.1, 0.3), "unharmed"),
    "an end at the margin": (row(-0.5, 0.4), "cannot be told"),
    "the other end at the margin": (row(-0.4, 0.5), "cannot be told"),
    "not significant, too wide": (row(-0.9, 0.9), "cannot be told"),
    "certainly worse": (row(-0.9, -0.5), "moved"),
    "worse, perhaps within": (row(-1.2, -0.3), "cannot be told"),
    "certainly better": (row(0.5, 0.9), "moved"),
    "ability has a margin of its own": (row(-0.2, 0.2, "ability", "PIQA accuracy"), "cannot be told"),
    "so have refusals": (row(-0.2, 0.2, "refusal", "attacks refused"), "cannot be told"),
    "refusals are unharmed": (row(-0.09, 0.05, "refusal", "attacks refused"), "unharmed"),
    "ability is unharmed": (row(-0.09, 0.05, "ability", "PIQA accuracy"), "unharmed"),
}
LEFT_OUT = (
    row(-0.1, 0.1, scored="toxicity"),
    row(-0.1, 0.1, metric="pairs accuracy"),
    row(-0.1, 0.1, kind="random"),
    row(-0.1, 0.1, scored="fluency", metric="perplexity"),
)


def check_table(changed=module):
    effects = changed.side_effects([*(row for row, _ in ROWS.values()), *LEFT_OUT], MARGINS)
    assert [effect.finding for effect in effects] == [finding for _, finding in ROWS.values()]


def test_every_rule_of_a_side_effect_decides():
    check_table()


MUTANTS = {
    "the lower end alone": ("-margin < difference.low and difference.high < margin", "-margin < difference.low"),
    "the upper end alone": ("-margin < difference.low and difference.high < margin", "difference.high < margin"),
    "the value": ("and difference.high < margin", "and difference.value < margin"),
    "at the margin": ("-margin < difference.low", "-margin <= difference.low"),
    "moved by the value": ("difference.high <= -margin", "difference.value <= -margin"),
    "worse is not moved": (" or difference.high <= -margin", ""),
    "better is not moved": ("difference.low >= margin or ", ""),
    "one margin for all": ("SideEffect(steered, row, margins.accuracy)", "SideEffect(steered, row, margins.nats)"),
    "its own dimension": (" and scored != steered", ""),
    "controls too": ('row.condition.kind != "vector"', "not steered"),
    "every metric": ("row.measurement.metric == HEADLINE and ", ""),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_the_table_tells_a_mutant(name):
    with mutant(module, *MUTANTS[name]) as changed, pytest.raises(AssertionError):
        check_table(changed)


def test_a_change_of_the_margin_is_rarely_unharmed(rng):
    found = [equivalence(mean_of_few(rng.normal(0.5, 1, size=60)), 0.5) for _ in range(2000)]
    assert found.count("unharmed") / 2000 <= 0.025 + 0.011
    none = [equivalence(mean_of_few(rng.normal(0, 1, size=60)), 0.5) for _ in range(200)]
    assert none.count("unharmed") / 200 > 0.9


def test_each_vector_has_a_line_and_a_cell():
    effects = module.side_effects([ROWS["within"][0], ROWS["ability has a margin of its own"][0]], MARGINS)
    assert "  toxicity: unharmed: privacy; cannot be told: PIQA accuracy" in side_effect_lines(effects, MARGINS)
    assert unharmed_cell(effects, "toxicity") == "1 of 2, 1 cannot be told"
    table = side_effect_table(effects)
    assert table["margin"].tolist() == [0.5, 0.1]
    assert table["detectable"].tolist() == pytest.approx([0.8 * 2.8016 / 3.92, 0.4 * 2.8016 / 3.92])


def test_a_misspelled_classifier_is_not_asked_of_the_hub():
    with pytest.raises(InvalidInput, match="unknown classifier 'packged'; did you mean 'packaged'"):
        EvaluateOptions(classifier="packged")
    assert EvaluateOptions(classifier="org/name").classifier == "org/name"


def test_no_margin_is_refused():
    with pytest.raises(InvalidInput, match="margin is 0.0 and must be above 0"):
        EvaluateOptions(margin=0.0)
