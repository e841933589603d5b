"""Versions side by side, as MLflow's pages show them."""

import dataclasses

import pytest

from registry import comparisons, outcomes
from registry.calibration import Calibration, HeldOutEffect
from registry.comparisons import against_champion, measured_versions, with_comparison, with_measured_versions
from registry.descriptions import summary_of
from registry.outcomes import outcome_of
from registry.records import RegisteredVector, calibration_tags, text_verdict_tags
from registry.verdicts import TextVerdict
from tests.mutants import mutant

VERDICT = TextVerdict(
    *(True, "toxic continuations", 3.0, 0.265, 0.155, -0.11, -0.184, -0.034, 0.08, 0.03, 200, 0.001, 39, -0.07, 0.025),
    *(1.098, 1.08, 1.1, "run"),
)
STRONGER = dataclasses.replace(
    VERDICT,
    steered=0.0,
    change=-0.36,
    change_low=-0.428,
    change_high=-0.293,
    best_random=-0.125,
    perplexity_ratio=1.043,
)
FALL = HeldOutEffect(True, 3.0, "toxic continuations", 0.153, 0.08, 0.22, 60, 0.05, 1.07, unsteered=0.25)
PREFERENCE = HeldOutEffect(False, 2.0, "preference", 0.4, -0.1, 0.9, 84, 0.3, 1.2)
NEEDED = {"dimension": "toxicity", "layer": "8", "checkpoint": "models:/ckpt.tiny/1", "checkpoint_step": "512"}


def version(number, verdict=None, tested=None, *aliases):
    tags = {**NEEDED, "method": "optimised"}
    if tested is not None:
        tags |= calibration_tags(Calibration(-2.0, 6.0, tested.strength, 1.34, (), 50, "s", "run", tested=tested))
    if verdict is not None:
        tags |= text_verdict_tags(verdict)
    return RegisteredVector("steer.tiny.toxicity", str(number), "run", "m-1", tags, aliases)


CHAMPION = version(3, VERDICT, FALL, "champion")


def outcomes_hold(module):
    written, fallen, preferred = (
        module.outcome_of(version(1, *measured)) for measured in ((VERDICT, FALL), (None, FALL), (None, PREFERENCE))
    )
    assert (written.judged_by, written.interval, written.random) == ("evaluation", "-11.0 [-18.4, -3.4]", "-7.0")
    assert (fallen.judged_by, fallen.interval, fallen.random) == ("calibration", "-15.3 [-22.0, -8.0]", "-5.0")
    assert (preferred.unit, preferred.interval, preferred.random) == ("nats", "+0.400 [-0.100, 0.900]", "+0.300")
    assert (written.works, fallen.works, preferred.works) == (True, True, False)
    assert (written.n, fallen.n, fallen.unsteered, preferred.unsteered) == (200, 60, 0.25, None)
    assert not written.is_like(fallen) and not fallen.is_like(preferred) and written.is_like(written)
    near, far = (dataclasses.replace(written, low=low, high=1.0) for low in (-3.5, -3.3))
    assert written.overlaps(near) and not written.overlaps(far) and not far.overlaps(written)


def test_an_outcome_is_of_the_evaluation_where_there_was_one():
    outcomes_hold(outcomes)
    assert outcome_of(version(1)) is None


@pytest.mark.parametrize(
    "passage, replacement",
    [
        ("if verdict is not None:", "if False:"),
        ("-100 * effect, -100 * high, -100 * low", "-100 * effect, -100 * low, -100 * high"),
        ("(-100 * tested.largest_random,", "(100 * tested.largest_random,"),
        ("(other.measure, other.judged_by, other.unit)", "(other.measure, self.judged_by, other.unit)"),
        ("self.low <= other.high and", ""),
        ("and other.low <= self.high", ""),
    ],
)
def test_a_mutated_outcome_is_noticed(passage, replacement):
    with mutant(outcomes, passage, replacement) as changed, pytest.raises(AssertionError):
        outcomes_hold(changed)


def test_a_version_says_what_it_does_against_the_champion():
    beside = against_champion(version(4, STRONGER, FALL), CHAMPION)
    assert beside == (
        "**Against the champion of that time, [version 3](#/models/steer.tiny.toxicity/versions/3)**: "
        "toxic continuations -36.0 [-42.8, -29.3] against -11.0 [-18.4, -3.4] points, "
        "best random direction -12.5 against -7.0, perplexity 1.043x against 1.098x, "
        "n = 200 and 200, at strength 3 and 3. The intervals do not overlap."
    )
    assert against_champion(CHAMPION, CHAMPION) == against_champion(version(4, STRONGER, FALL), None) == ""


def test_effects_of_other_kinds_are_not_compared():
    other = dataclasses.replace(STRONGER, behaviour="insults")
    for measured, kind in (
        ((None, FALL), "this version on toxic continuations by calibration"),
        ((other, FALL), "this version on insults by evaluation"),
        ((None, None), "nothing was measured of this version"),
    ):
        beside = against_champion(version(4, *measured), CHAMPION)
        assert kind in beside and "against -" not in beside
    assert "nothing was measured of the champion" in against_champion(CHAMPION, version(2, None, None, "champion"))


def table_holds(module):
    damaged = version(9, VERDICT, FALL)
    damaged = dataclasses.replace(damaged, tags={**damaged.tags, "text_verdict": "{"})
    useless = dataclasses.replace(VERDICT, works=False)
    versions = [damaged, version(8), version(7, useless, FALL), version(4, STRONGER, FALL), CHAMPION]
    opening, table = module.measured_versions(versions)
    assert opening.startswith("**Measured versions**, of 5.") and "more were measured" not in opening
    rows = [line.split(" | ") for line in table.splitlines()[2:]]
    assert [row[0] for row in rows] == [f"| [{n}](#/models/steer.tiny.toxicity/versions/{n})" for n in (4, 3, 7)]
    assert rows[1][1:] == [
        *("yes", "3", "toxic continuations, evaluation, n = 200", "26.5%", "-11.0 [-18.4, -3.4] points", "-7.0"),
        *("1.098x", "optimised", "8", "512 |"),
    ]
    many = [version(number, VERDICT, FALL) for number in range(1, 12)]
    opening, table = module.measured_versions(many)
    assert opening.endswith("3 more were measured before.") and len(table.splitlines()) == 2 + module.MOST_ROWS
    assert module.measured_versions([version(1)]) == ()


def test_a_models_page_lists_measured_versions_working_ones_first():
    table_holds(comparisons)


@pytest.mark.parametrize(
    "passage, replacement",
    [
        ("(not pair[1].works, -int(pair[0].version))", "-int(pair[0].version)"),
        ("(not pair[1].works, -int(pair[0].version))", "(not pair[1].works, int(pair[0].version))"),
        ("(not pair[1].works, -int(pair[0].version))", "(not pair[1].works, pair[0].version)"),
        ("except CorruptFile:", "except KeyError:"),
        ("measured[:MOST_ROWS]", "measured"),
    ],
)
def test_a_mutated_table_is_noticed(passage, replacement):
    with mutant(comparisons, passage, replacement) as changed, pytest.raises(Exception):  # noqa: B017
        table_holds(changed)


def test_a_comparison_stands_below_the_verdict_once():
    first, second = (against_champion(version(4, verdict, FALL), CHAMPION) for verdict in (STRONGER, VERDICT))
    description = "**Works**\n\n| a |\n\n**Origin**: fitted"
    once = with_comparison(description, first)
    assert once.split("\n\n")[:2] == ["**Works**", first]
    assert with_comparison(once, second) == f"**Works**\n\n{second}\n\n| a |\n\n**Origin**: fitted"
    assert with_comparison(once, "") == description
    assert summary_of(once) == "**Works**\n\n| a |"  # versions of another registry have other numbers


def test_what_somebody_wrote_on_a_models_page_stays():
    paragraphs = measured_versions([CHAMPION])
    once = with_measured_versions("Ours.", paragraphs)
    assert once == "\n\n".join(("Ours.", *paragraphs))
    edited = f"{once}\n\nAsk Ann."
    assert with_measured_versions(edited, paragraphs) == "\n\n".join(("Ours.", "Ask Ann.", *paragraphs))
    assert with_measured_versions(edited, ()) == "Ours.\n\nAsk Ann."
