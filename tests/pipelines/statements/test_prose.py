"""Prose with its real sentences."""

from itertools import combinations

from pipelines.calibrate.splits import PROSE_SENTENCES
from pipelines.statements.packaged import packaged_statements
from pipelines.statements.prose import background_prose, prose_for


def test_no_sentence_has_two_uses():
    uses = [set(prose_for(use)) for use in ("validation", "test", "evaluation")]
    assert all(first.isdisjoint(second) for first, second in combinations([*uses, set(background_prose())], 2))
    assert min(map(len, uses)) > 4 * PROSE_SENTENCES


def test_no_sentence_is_a_robustness_statement_whatever_is_calibrated():
    statements = set(packaged_statements("robustness").texts)
    assert all(statements.isdisjoint(prose_for(use)) for use in ("validation", "test", "evaluation"))


def test_a_seen_text_is_left_out_alone():
    first, second, *_ = prose_for("test")
    assert prose_for("test", {first})[0] == second
    assert first not in prose_for("test", {first})
    assert prose_for("validation", {first}) == prose_for("validation")
