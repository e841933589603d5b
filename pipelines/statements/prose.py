"""Prose: ordinary sentences that are no statement, each kept for one use.

Perplexity measured on sentences that a vector was fitted on, or chosen by, would flatter the vector. Which use a
sentence is kept for depends on nothing that a user can choose, so that two runs with different options agree on it.
"""

from collections.abc import Collection
from functools import cache
from typing import Literal, get_args

from pipelines.statements.packaged import held_out_sentences, packaged_statements
from registry.dimensions import ROBUSTNESS

Use = Literal["validation", "test", "evaluation"]
"""Validation and test are calibration's."""
BACKGROUND = 200
"""The last sentences, which vectors may be fitted on."""


def background_prose() -> tuple[str, ...]:
    return held_out_sentences()[-BACKGROUND:]


def prose_for(use: Use, seen: Collection[str] = ()) -> tuple[str, ...]:
    """The sentences that are kept for ``use``, without those among the ``seen`` texts."""
    known, uses = set(seen), get_args(Use)
    return tuple(sentence for sentence in free_sentences()[uses.index(use) :: len(uses)] if sentence not in known)


@cache
def free_sentences() -> tuple[str, ...]:
    """All but the background and those that the packaged statements of robustness hold, clean or mistyped."""
    used = {*packaged_statements(ROBUSTNESS.name).texts, *background_prose()}
    return tuple(sentence for sentence in held_out_sentences() if sentence not in used)
