"""Checkpoints of pre-training: one revision of a model, and the ordered series of them."""

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from registry.errors import InvalidInput, NotFound, UnknownName, unknown_name

INIT = "init"
INIT_STEP = -1
"""The step of a random initialisation, which precedes step 0: a published step 0 may already be trained."""
MAIN = "main"
"""The revision, and the stage, of the model that training ended with, where it stands beside its checkpoints."""
CHECKPOINT_COLUMNS = ("model", "revision", "stage", "ingredient", "step", "tokens")
"""By which tables tell checkpoints apart."""


@dataclass(frozen=True)
class Checkpoint:
    """One revision of a model during pre-training."""

    model: str
    """Short name of the series: names its entries in the registry."""
    repo: str
    """Hub id, absolute path of a directory or GGUF file, or ``packaged:<name>``."""
    revision: str
    """Branch, tag or commit on the hub; name of the directory in a series on disk; ``init`` for random weights."""
    step: int
    """Step within its stage; 0 for a model without checkpoints; -1 for its random initialisation."""
    stage: str = ""
    """Empty in a series of one stage; ``main`` for the model at the end of a series."""
    ingredient: int | None = None
    tokens: int | None = None
    """Tokens seen, where the name tells them."""
    place: int = 0
    """Of its repository in a training line of several, from 1; 0 in a series of one repository."""

    @property
    def is_random_init(self) -> bool:
        return self.revision == INIT

    @property
    def line(self) -> str:
        """The run that it belongs to: ``stage2-ingredient1``; empty in a series of one stage."""
        return self.stage if self.ingredient is None else f"{self.stage or 'all'}-ingredient{self.ingredient}"

    @property
    def label(self) -> str:
        """Its name where it is looked up, in runs, tags and files: ``step 2000``."""
        return self._called(str(self.step))

    @property
    def caption(self) -> str:
        """Its name where it is read, in figures, printed tables and messages: ``step 2,000``."""
        return self._called(f"{self.step:,}")

    def _called(self, step: str) -> str:
        if self.is_random_init:
            return "random init"
        is_end = self.revision == MAIN and bool(self.line)
        return self.line if is_end else f"{self.line} step {step}".lstrip()

    def as_columns(self) -> dict[str, object]:
        """The cells of ``CHECKPOINT_COLUMNS``, which every table of checkpoints has."""
        return {name: getattr(self, name) for name in CHECKPOINT_COLUMNS}

    @property
    def order(self) -> tuple[object, ...]:
        """Sorts checkpoints as training went: by repository, stage, ingredient and step; ``main`` last."""
        numbered = re.fullmatch(r"\D+(\d+)", self.stage)
        if self.stage == MAIN:
            stage: tuple[object, ...] = (2,)
        elif numbered or not self.stage:
            stage = (0, int(numbered[1]) if numbered else 0)
        else:
            stage = (1, *_natural(self.stage))
        return (not self.is_random_init, self.place, stage, self.ingredient or 0, self.step)

    def random_init(self) -> "Checkpoint":
        """The random initialisation of the same architecture."""
        return replace(self, revision=INIT, step=INIT_STEP, stage="", ingredient=None, tokens=None, place=0)


def _natural(name: str) -> Iterator[tuple[int, str]]:
    return ((int(digits or 0), text) for text, digits in re.findall(r"(\D*)(\d*)", name))


@dataclass(frozen=True)
class LeftOut:
    """A revision that is no checkpoint of the series, and why."""

    revision: str
    reason: str


@dataclass(frozen=True)
class CheckpointSeries:
    """The checkpoints of one model, in the order of training."""

    model: str
    checkpoints: tuple[Checkpoint, ...]
    left_out: tuple[LeftOut, ...] = ()
    ends_in_main: bool = False
    """Whether ``main`` belongs to the first stage, as the model that a trainer leaves above its checkpoints."""

    def __post_init__(self) -> None:
        if not self.checkpoints:
            raise InvalidInput(f"the series {self.model!r} has no checkpoints")
        ordered = tuple(sorted(self.checkpoints, key=lambda checkpoint: checkpoint.order))
        for earlier, later in pairwise(ordered):
            if (earlier.line, earlier.step) == (later.line, later.step):
                raise InvalidInput(
                    f"{earlier.revision!r} and {later.revision!r} of {self.model!r} are both {earlier.caption}; remove "
                    "one of them, or pin one by model=<repository>@<revision>"
                )
        object.__setattr__(self, "checkpoints", ordered)

    def __len__(self) -> int:
        return len(self.checkpoints)

    def __iter__(self) -> Iterator[Checkpoint]:
        return iter(self.checkpoints)

    @property
    def random_init(self) -> Checkpoint:
        return self.checkpoints[0].random_init()

    @property
    def lines(self) -> tuple[str, ...]:
        """The runs that the checkpoints belong to, in the order of training."""
        return tuple(dict.fromkeys(checkpoint.line for checkpoint in self))

    @property
    def is_joined(self) -> bool:
        """Whether its stages lie in several repositories."""
        return self.checkpoints[-1].place > 0

    @property
    def first_line(self) -> tuple[Checkpoint, ...]:
        """What a selection means that names no stage: the first run to its end, or all that a training line lists."""
        if self.is_joined:
            return self.checkpoints
        first = self.checkpoints[0].line
        return tuple(
            checkpoint
            for checkpoint in self
            if checkpoint.line == first or (self.ends_in_main and checkpoint.stage == MAIN)
        )

    def select(self, spec: str) -> tuple[Checkpoint, ...]:
        """Some checkpoints, by a specification whose parts are separated by commas, in the order of training.

        A part is ``all``, ``first``, ``last``, a step (``512``) or ``log:12`` (twelve spread evenly over the logarithm
        of the step, first and last among them), each of the first stage; the same of another stage or ingredient
        (``stage2:last``, ``stage2-ingredient1:log:4``); a stage (``stage2``), which means all of it; a revision
        (``ckpt_010``, ``main``); or ``init`` (the random initialisation).
        Raises ``UnknownName`` for what does not exist, ``InvalidInput`` for a malformed part.
        """
        parts = [part for part in map(str.strip, spec.split(",")) if part]
        try:
            chosen = {checkpoint for part in parts for checkpoint in self._part(part)}
        except UnknownName as error:
            step = spec.replace(",", "")
            if re.fullmatch(r"\d{1,3}(,\d{3})+", spec) and any(str(checkpoint.step) == step for checkpoint in self):
                raise UnknownName(
                    f"{spec!r} names several checkpoints of {self.model}; write the step as {step}"
                ) from error
            raise
        if not chosen:
            raise InvalidInput(
                f"{spec!r} selects no checkpoint; use all, log:12, last, or steps such as {self._examples()}"
            )
        return tuple(sorted(chosen, key=lambda checkpoint: checkpoint.order))

    def specification_of(self, checkpoint: Checkpoint) -> str:
        """The shortest text by which ``select`` finds this checkpoint alone."""
        line, step = checkpoint.line, str(checkpoint.step)
        for spec in ("last", step, line, f"{line}:last", f"{line}:{step}"):
            with suppress(InvalidInput):
                if self.select(spec) == (checkpoint,):
                    return spec
        return checkpoint.revision

    def _part(self, part: str) -> tuple[Checkpoint, ...]:
        if part == INIT:
            return (self.random_init,)
        named = tuple(checkpoint for checkpoint in self if checkpoint.revision == part)
        # A directory called 0512 is a step as well as a revision; both mean it.
        if named:
            return named
        stage, colon, selection = part.partition(":")
        lines = self._lines_of(stage)
        if lines:
            return tuple(
                checkpoint for line in lines for checkpoint in self._of_line(line, selection if colon else "all", part)
            )
        if colon and stage != "log":
            known = [line for line in self.lines if line]
            if not known:
                raise UnknownName(
                    f"{self.model} has no stages, so {part!r} names none of its checkpoints; use all, log:12, last, or "
                    f"steps such as {self._examples()}"
                )
            raise unknown_name(f"stage of {self.model}", stage, known)
        return self._of_line(self.first_line, part, part)

    def _lines_of(self, stage: str) -> list[tuple[Checkpoint, ...]]:
        """The checkpoints of each run of a stage, or of one run."""
        wanted = dict.fromkeys(
            checkpoint.line for checkpoint in self if stage and stage in (checkpoint.stage, checkpoint.line)
        )
        return [tuple(checkpoint for checkpoint in self if checkpoint.line == line) for line in wanted]

    def _of_line(self, line: tuple[Checkpoint, ...], selection: str, part: str) -> tuple[Checkpoint, ...]:
        whole = {"all": line, "first": line[:1], "last": line[-1:]}
        if selection in whole:
            return whole[selection]
        if selection.startswith("log:"):
            return _log_spaced(line, selection.removeprefix("log:"))
        known = {str(checkpoint.step): checkpoint for checkpoint in reversed(line)}
        alike = [checkpoint.line for checkpoint in line if str(checkpoint.step) == selection]
        if self.is_joined and len(set(alike)) > 1:
            raise InvalidInput(
                f"step {selection} of {self.model} is in {' and '.join(dict.fromkeys(alike))}; name one of them, such "
                f"as {alike[0]}:{selection}"
            )
        if selection not in known:
            others = [name for name in self.lines if name and name != line[0].line]
            raise unknown_name(f"checkpoint of {self.model}", part, [*whole, "log:N", *reversed(known), *others])
        return (known[selection],)

    def _examples(self) -> str:
        return ",".join(str(checkpoint.step) for checkpoint in self.first_line[:3])

    def at(self, step: int) -> Checkpoint:
        """The checkpoint of ``step`` in the first stage. Raises ``NotFound``, naming those that exist."""
        for checkpoint in self.first_line:
            if checkpoint.step == step:
                return checkpoint
        known = ", ".join(str(checkpoint.step) for checkpoint in self.first_line)
        raise NotFound(f"{self.model} has no checkpoint at step {step}; steps: {known}")


def _log_spaced(line: tuple[Checkpoint, ...], count: str) -> tuple[Checkpoint, ...]:
    if not count.isdecimal() or int(count) < 1:
        raise InvalidInput(f"log:{count} needs a whole number of checkpoints, such as log:12")
    if int(count) >= len(line):
        return line
    steps = [checkpoint.step for checkpoint in line]
    # Stages of a training line count their steps anew, so that only their order is left.
    positions = np.log1p(steps) if steps == sorted(steps) else np.arange(len(steps), dtype=np.float64)
    # From the last to the first: of equal steps the later stands for the end.
    remaining = list(reversed(range(len(line))))
    chosen = []
    for target in np.linspace(positions[-1], positions[0], int(count)):
        nearest = min(remaining, key=lambda index: abs(float(positions[index]) - target))
        chosen.append(nearest)
        remaining.remove(nearest)
    return tuple(line[index] for index in sorted(chosen))
