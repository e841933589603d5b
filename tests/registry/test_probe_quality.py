"""The rule by which a probe of answers is used, and its record."""

from dataclasses import asdict, replace

import pytest

import registry.probe_quality as module
from registry.errors import CorruptFile, InvalidInput
from registry.probe_quality import ProbeQuality
from tests.mutants import mutant
from tests.probe_qualities import GOOD, POOR

USED = [
    ({}, True),
    ({"auroc_low": 0.6}, False),  # the interval has to lie above, not at
    ({"auroc_low": 0.601}, True),
    ({"auroc_low": 0.55}, False),
    ({"shuffled": 0.75}, False),
    ({"shuffled": 0.76}, False),
    ({"shuffled": 0.74}, True),
    ({"words": 0.99}, True),  # words that tell as much are said beside it
]


def uses(of, changes):
    fields = {**asdict(GOOD), **changes}
    return of.ProbeQuality(**fields).works


@pytest.mark.parametrize(("changes", "used"), USED)
def test_a_probe_is_used_where_it_beats_its_controls(changes, used):
    assert uses(module, changes) == used


@pytest.mark.parametrize(
    ("passage", "replacement"),
    [
        ("self.auroc_low > max", "self.auroc > max"),
        ("self.auroc_low > max", "self.auroc_low >= max"),
        ("max(LEAST_AUROC, self.shuffled)", "LEAST_AUROC"),
        ("max(LEAST_AUROC, self.shuffled)", "self.shuffled"),
        ("max(LEAST_AUROC, self.shuffled)", "max(LEAST_AUROC, self.words)"),
    ],
)
def test_another_rule_fails_the_table(passage, replacement):
    with mutant(module, passage, replacement) as changed:
        assert any(uses(changed, changes) != used for changes, used in USED)


def test_it_comes_back_from_text_and_tells_its_numbers():
    assert ProbeQuality.from_json(GOOD.to_json()) == GOOD
    assert "AUROC 0.800 [0.750, 0.850] of its readings at the tokens of 200 held-out answers" in GOOD.describe()
    assert not POOR.works


@pytest.mark.parametrize("changes", [{"auroc": 1.2}, {"false_alarms": -0.1}, {"shuffled": float("nan")}])
def test_what_is_no_share_is_refused(changes):
    with pytest.raises(InvalidInput, match="lie within 0 and 1"):
        replace(GOOD, **changes)


@pytest.mark.parametrize("text", ["{}", "[]", '{"auroc": 0.5}', GOOD.to_json().replace("0.8,", '"high",')])
def test_a_record_that_cannot_be_read_is_refused(text):
    with pytest.raises(CorruptFile, match="quality of the probe cannot be read"):
        ProbeQuality.from_json(text)
