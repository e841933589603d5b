"""Named series: the checkpoints that the names of a repository's revisions, or of a directory's members, tell."""

from collections.abc import Iterable

from registry.checkpoints import MAIN, Checkpoint, CheckpointSeries, LeftOut
from registry.errors import InvalidInput
from registry.revisions import Position, parse_position


def series_of(
    model: str,
    repo: str,
    revisions: Iterable[str],
    *,
    left_out: Iterable[LeftOut] = (),
    ends_in_main: bool = False,
    end_step: int = 0,
) -> CheckpointSeries:
    """The series that the names of a repository's revisions, or of a directory's members, tell.

    Names that tell no step are left out by name, all but ``main``, which comes last. A series of one name needs no
    step. With ``ends_in_main`` the model at ``main`` ends the first stage, at ``end_step`` or the last step if that is
    later. Raises ``InvalidInput`` where names are of several runs that cannot be told apart, or none of several tells a
    step.
    """
    names = list(dict.fromkeys(revisions))
    read = {name: parse_position(name) for name in names}
    placed = {name: position for name, position in read.items() if position is not None}
    if not placed:
        return _without_steps(model, repo, names, tuple(left_out))
    strays = _strays(model, placed)
    checkpoints = [
        Checkpoint(model, repo, name, position.step, position.stage, position.ingredient, position.tokens)
        for name, position in placed.items()
        if name not in strays
    ]
    untold = [
        LeftOut(name, "its name tells no step") for name, position in read.items() if position is None and name != MAIN
    ]
    odd = [LeftOut(name, "it is named unlike the others, as of another run") for name in strays]
    if MAIN in names:
        last = max(checkpoint.step for checkpoint in checkpoints)
        checkpoints.append(Checkpoint(model, repo, MAIN, max(last, end_step), MAIN))
    return CheckpointSeries(model, tuple(checkpoints), (*left_out, *untold, *odd), ends_in_main)


def _without_steps(model: str, repo: str, names: list[str], left_out: tuple[LeftOut, ...]) -> CheckpointSeries:
    if MAIN not in names and len(names) > 1:
        raise InvalidInput(
            f"the checkpoints in {repo} have names that tell no step: {_enumerated(names)}; name them by "
            "their steps, such as step_1000, or give the path of one of them"
        )
    revision = MAIN if MAIN in names or not names else names[0]
    untold = (LeftOut(name, "its name tells no step") for name in names if name != revision)
    return CheckpointSeries(model, (Checkpoint(model, repo, revision, 0),), (*left_out, *untold))


def _strays(model: str, placed: dict[str, Position]) -> list[str]:
    """Names of other patterns than the rest, where each is alone; several runs in one series are refused."""
    by_pattern: dict[str, list[str]] = {}
    for name, position in placed.items():
        by_pattern.setdefault(position.pattern, []).append(name)
    largest = max(by_pattern.values(), key=len)
    others = [names for names in by_pattern.values() if names is not largest]
    if others and (len(largest) < 3 or max(map(len, others)) > 1):
        examples = " and ".join(repr(names[0]) for names in (largest, *others[:3]))
        raise InvalidInput(
            f"the checkpoints of {model!r} are of several runs, which their names do not order: {examples}; keep those "
            "of one run in a directory, or pin one by model=<repository>@<revision>"
        )
    return [names[0] for names in others]


def _enumerated(names: list[str], most: int = 8) -> str:
    shown = ", ".join(sorted(names)[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown
