"""Failings: the rules of a verdict that a vector does not meet, in words, so that a "no" says why."""

from collections.abc import Mapping, Sequence

from pipelines.calibrate.effects import CHEAP
from registry.counts import counted

CHANCE = "the change may be chance"
TOO_COSTLY = f"perplexity rises by more than {CHEAP - 1:.0%}"
OTHER_FORM = "answers are shorter, longer or repeat themselves"


def unmet(rules: Mapping[str, bool]) -> tuple[str, ...]:
    """What is said of each rule that is not met, in order."""
    return tuple(failing for failing, is_met in rules.items() if not is_met)


def random_failing(directions: int, *, is_beaten: bool) -> str:
    """Of a vector that is not beyond random directions: one of them may be as good, or they are too few."""
    drawn = counted(directions, "random direction")
    return "a random direction may do as much" if is_beaten else f"too few to tell: {drawn}"


def says(failings: Sequence[str]) -> str:
    """``yes``, or ``no`` and why."""
    return f"no: {', '.join(failings)}" if failings else "yes"
