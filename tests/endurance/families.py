"""Every causal family of transformers, tiny and random: what the table in serving/README.md says of it."""

from tests.families import FAMILIES, MANUAL, outcomes, table


def test_the_table_is_what_all_families_do(say):
    found = outcomes(FAMILIES)
    served = sum(outcome.served is True for outcome in found.values())
    say(f"{len(found)} families, {served} served; python -m tests.families prints the table")
    assert table(found) in MANUAL.read_text()
