"""Comparisons of versions, in Markdown: one beside the champion, and all that were measured, for MLflow's pages."""

from collections.abc import Sequence

from registry.errors import CorruptFile
from registry.outcomes import Outcome, outcome_of
from registry.records import RegisteredVector

MOST_ROWS = 8
"""A description of PostgreSQL's registry holds 5,000 characters."""
_AGAINST = "**Against the champion"
_MEASURED = "**Measured versions"
_HEADER = (
    *("version", "works", "strength", "measured on", "unsteered", "effect [95 %]", "best random", "perplexity"),
    *("method", "layer", "step"),
)
_READ = (
    "Effect: of answers the change of the share of untrustworthy ones, in points, where less is better; of preference "
    "the change of log p(trustworthy) − log p(untrustworthy), in nats, where more is better. Best random: the best of "
    "random directions of equal cost. Rows can be compared that were measured on the same thing by the same command."
)


def against_champion(version: RegisteredVector, champion: RegisteredVector | None) -> str:
    """The paragraph that compares a version with the champion of now; empty where there is no other."""
    if champion is None or champion.version == version.version:
        return ""
    link = f"[version {champion.version}](#/models/{champion.name}/versions/{champion.version})"
    opening = f"{_AGAINST} of that time, {link}**:"
    ours, theirs = _readable_outcome(version), _readable_outcome(champion)
    if ours is None:
        return f"{opening} nothing was measured of this version."
    if theirs is None:
        return f"{opening} nothing was measured of the champion."
    if not ours.is_like(theirs):
        return f"{opening} measured on {_kind(theirs)} and this version on {_kind(ours)}, so the two do not compare."
    return (
        f"{opening} {ours.measure} {ours.interval} against {theirs.interval} {ours.unit}, best random direction "
        f"{ours.random} against {theirs.random}, perplexity {ours.perplexity_ratio:.3f}x against "
        f"{theirs.perplexity_ratio:.3f}x, n = {ours.n} and {theirs.n}, at strength {ours.strength:g} and "
        f"{theirs.strength:g}. The intervals {'overlap' if ours.overlaps(theirs) else 'do not overlap'}."
    )


def measured_versions(versions: Sequence[RegisteredVector]) -> tuple[str, ...]:
    """The paragraphs that list measured versions: those that work first, of these the newest; none for none."""
    measured = [(version, outcome) for version in versions if (outcome := _readable_outcome(version)) is not None]
    if not measured:
        return ()
    measured.sort(key=lambda pair: (not pair[1].works, -int(pair[0].version)))
    rows = [_row(version, outcome) for version, outcome in measured[:MOST_ROWS]]
    lines = [f"| {' | '.join(row)} |" for row in (_HEADER, ("---",) * len(_HEADER), *rows)]
    rest = len(measured) - len(rows)
    more = f" {rest} more were measured before." if rest > 0 else ""
    return (f"{_MEASURED}**, of {len(versions)}. {_READ}{more}", "\n".join(lines))


def with_comparison(description: str, comparison: str) -> str:
    """The description of a version with ``comparison`` below its verdict; an earlier one is replaced."""
    first, *rest = [paragraph for paragraph in description.split("\n\n") if not paragraph.startswith(_AGAINST)] or [""]
    return "\n\n".join([first, *([comparison] if comparison else []), *rest])


def with_measured_versions(description: str, paragraphs: Sequence[str]) -> str:
    """The description of a registered model with its table of versions at the end; an earlier one is replaced."""
    table = f"| {_HEADER[0]} | {_HEADER[1]} |"
    kept = [text for text in description.split("\n\n") if not text.startswith((_MEASURED, table))]
    return "\n\n".join([*kept, *paragraphs])


def _readable_outcome(version: RegisteredVector) -> Outcome | None:
    """A damaged tag of another version keeps none from being judged; the command that reads it says so."""
    try:
        return outcome_of(version)
    except CorruptFile:
        return None


def _kind(outcome: Outcome) -> str:
    return f"{outcome.measure} by {outcome.judged_by}"


def _row(version: RegisteredVector, outcome: Outcome) -> tuple[str, ...]:
    unsteered = "–" if outcome.unsteered is None else f"{outcome.unsteered:.1%}"
    return (
        f"[{version.version}](#/models/{version.name}/versions/{version.version})",
        *("yes" if outcome.works else "no", f"{outcome.strength:g}"),
        f"{outcome.measure}, {outcome.judged_by}, n = {outcome.n}",
        *(unsteered, f"{outcome.interval} {outcome.unit}", outcome.random, f"{outcome.perplexity_ratio:.3f}x"),
        *(version.tags.get("method", "–"), version.tags["layer"], str(version.checkpoint_step)),
    )
