"""Revision names: the stage, ingredient, step and tokens that series of checkpoints write into them."""

import re
from dataclasses import dataclass

_COUNT = r"(?P<count>\d+(?:\.\d+)?)(?:e\+?(?P<power>\d{1,2})|(?P<unit>[km]))?(?=$|[^a-z0-9.]|\.(?!\d))"
_COUNT += r"(?![,_']\d{3}(?!\d))"  # 1,000 may be a thousand, or the first of several: it tells no number
_WORD = r"global[-_]?step|steps?|ckpt|chck|checkpoint|iteration|iter|ba"
_STEP = re.compile(
    rf"(?:^|[^a-z0-9])(?:(?:{_WORD})[-_=]?{_COUNT}|model_(?P<padded>\d{{6,}})(?![\da-z]))", re.IGNORECASE
)
_BARE = re.compile(_COUNT, re.IGNORECASE)
_TOKENS = re.compile(r"[-_](?:tokens?[-_=]?)?(\d+(?:\.\d+)?)([mbt])(?:[-_]tokens?)?(?![a-z0-9])", re.IGNORECASE)
_TOKENS_NAMED = re.compile(r"tokens?[-_=]?(\d+(?:\.\d+)?)([mbt])(?![a-z0-9])", re.IGNORECASE)
_STAGE = re.compile(r"(?:^|(?<=[-_/]))(?:(stage|phase)[-_]?(\d+)|(lc-[0-9a-z-]*?\d+k(?=-step)))", re.IGNORECASE)
_INGREDIENT = re.compile(r"ingredient[-_]?(\d+)", re.IGNORECASE)
_EPOCH = re.compile(r"(?:^|(?<=[^a-z0-9]))(?:epoch|ep)[-_=]?\d+", re.IGNORECASE)
_SCALE = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9, "t": 10**12}


@dataclass(frozen=True)
class Position:
    """Where in training the name of a revision says that it stands."""

    step: int
    """Optimiser steps; what the name counts where that is something else, as the chunks of Amber's ``ckpt_010``."""
    stage: str = ""
    """``stage2``, ``phase1``, ``lc-4k-to-32k``; empty where the name tells none."""
    ingredient: int | None = None
    """Which of several runs that are merged at the end of a stage."""
    tokens: int | None = None
    pattern: str = ""
    """The name without all of the above: names of one run differ in nothing else."""


def parse_position(revision: str) -> Position | None:
    """Where a revision stands by its name, or ``None`` for a name that tells no step.

    ``step1000``, ``step1000-tokens4B``, ``stage2-ingredient1-step1000-tokens3B``, ``ckpt_010``, ``checkpoint-500``,
    ``epoch=0-step=500``, ``ep1-ba500``, ``step_1k``, ``step1e3``, ``step-50K-105b``, ``model_000500``, ``1000``, …
    ``step-1`` may mean a step before the first, and tells none.
    """
    match = _BARE.fullmatch(revision) or _STEP.search(revision)
    step = None if match is None or revision == "step-1" else _step(match)
    if match is None or step is None:
        return None
    rest = revision[: match.start("count")] if match["count"] else revision[: match.start("padded")]
    after = revision[match.end() :]
    tokens = _TOKENS.search(after) or _TOKENS_NAMED.search(rest)
    stage, ingredient = _STAGE.search(revision), _INGREDIENT.search(revision)
    return Position(
        step,
        "" if stage is None else (stage[3] or f"{stage[1]}{int(stage[2])}").lower(),
        None if ingredient is None else int(ingredient[1]),
        None if tokens is None else round(float(tokens[1]) * _SCALE[tokens[2].lower()]),
        _pattern(rest, after),
    )


def _step(match: re.Match[str]) -> int | None:
    fields = match.groupdict()
    if fields.get("padded"):
        return int(fields["padded"])
    value = float(fields["count"]) * 10 ** int(fields["power"] or 0) * _SCALE[(fields["unit"] or "").lower()]
    return round(value) if value < 10**15 and abs(value - round(value)) < 1e-6 else None


def _pattern(before: str, after: str) -> str:
    kept = f"{before} {_TOKENS.sub('', after)}"
    for part in (_STAGE, _INGREDIENT, _EPOCH, _TOKENS, _TOKENS_NAMED):
        kept = part.sub("", kept)
    return re.sub(r"[-_=./+ ]+", " ", kept).strip().lower()


def parse_step(revision: str) -> int | None:
    """The step that a revision's name tells, or ``None``; see ``parse_position``."""
    position = parse_position(revision)
    return None if position is None else position.step
