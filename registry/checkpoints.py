"""Pre-training checkpoints: one revision of a model, and the ordered series of them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from registry.errors import InvalidInput, NotFound, unknown_name

INIT = "init"
INIT_STEP = -1
"""The step of a random initialisation, which precedes step 0: a published step 0 may already be trained."""

_STEP = re.compile(
    r"(?:^|[-_/.])(?:global_?step|step|steps|ckpt|checkpoint|iter|iteration)[-_]?(\d+)(?![\d.])", re.IGNORECASE
)
_UNSAFE = re.compile(r"[^a-z0-9._-]+")


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
    """Pre-training step; 0 for a model without checkpoints; -1 for its random initialisation."""

    @property
    def is_random_init(self) -> bool:
        return self.revision == INIT

    @property
    def label(self) -> str:
        return "random init" if self.is_random_init else f"step {self.step}"

    def random_init(self) -> "Checkpoint":
        """The random initialisation of the same architecture."""
        return replace(self, revision=INIT, step=INIT_STEP)


@dataclass(frozen=True)
class CheckpointSeries:
    """The checkpoints of one model, in order of step."""

    model: str
    checkpoints: tuple[Checkpoint, ...]

    def __post_init__(self) -> None:
        if not self.checkpoints:
            raise InvalidInput(f"the series {self.model!r} has no checkpoints")
        steps = [checkpoint.step for checkpoint in self.checkpoints]
        if len(set(steps)) < len(steps):
            raise InvalidInput(f"two checkpoints of {self.model!r} have the same step; steps: {steps}")
        object.__setattr__(self, "checkpoints", tuple(sorted(self.checkpoints, key=lambda one: one.step)))

    def __len__(self) -> int:
        return len(self.checkpoints)

    def __iter__(self) -> Iterator[Checkpoint]:
        return iter(self.checkpoints)

    @property
    def random_init(self) -> Checkpoint:
        return self.checkpoints[0].random_init()

    def select(self, spec: str) -> tuple[Checkpoint, ...]:
        """Some checkpoints, by a specification whose parts are separated by commas, in order of step.

        A part is ``all``, ``first``, ``last``, a step (``512``), a revision (``ckpt_010``), ``log:12`` (twelve spread
        evenly over the logarithm of the step, first and last among them) or ``init`` (the random initialisation).
        Raises ``UnknownName`` for a step or revision that does not exist, ``InvalidInput`` for a malformed part.
        """
        chosen: dict[int, Checkpoint] = {}
        for part in filter(None, (part.strip() for part in spec.split(","))):
            chosen.update((checkpoint.step, checkpoint) for checkpoint in self._part(part))
        if not chosen:
            raise InvalidInput(
                f"checkpoints {spec!r} selects none; use all, log:12, or steps such as {self._examples()}"
            )
        return tuple(chosen[step] for step in sorted(chosen))

    def _part(self, part: str) -> tuple[Checkpoint, ...]:
        whole = {"all": self.checkpoints, "first": self.checkpoints[:1], "last": self.checkpoints[-1:]}
        if part in whole:
            return whole[part]
        if part == INIT:
            return (self.random_init,)
        if part.startswith("log:"):
            return self._log_spaced(part.removeprefix("log:"))
        known = {str(one.step): one for one in self} | {one.revision: one for one in self}
        if part not in known:
            raise unknown_name(f"checkpoint of {self.model}", part, [str(one.step) for one in self])
        return (known[part],)

    def _log_spaced(self, count: str) -> tuple[Checkpoint, ...]:
        if not count.isdigit() or int(count) < 1:
            raise InvalidInput(f"log:{count} needs a whole number of checkpoints, such as log:12")
        if int(count) >= len(self):
            return self.checkpoints
        positions = np.log1p([checkpoint.step for checkpoint in self])
        remaining = list(range(len(self)))
        chosen = []
        for target in np.linspace(positions[-1], positions[0], int(count)):
            nearest = min(remaining, key=lambda index: abs(float(positions[index]) - target))
            chosen.append(nearest)
            remaining.remove(nearest)
        return tuple(self.checkpoints[index] for index in sorted(chosen))

    def _examples(self) -> str:
        return ",".join(str(one.step) for one in self.checkpoints[:3])

    def at(self, step: int) -> Checkpoint:
        """The checkpoint of ``step``. Raises ``NotFound``, naming those that exist."""
        for checkpoint in self:
            if checkpoint.step == step:
                return checkpoint
        raise NotFound(
            f"{self.model} has no checkpoint at step {step}; steps: {', '.join(str(one.step) for one in self)}"
        )


def parse_step(revision: str) -> int | None:
    """The pre-training step that a revision's name tells, or ``None``.

    ``step1000``, ``step1000-tokens4B``, ``stage1-step1000-tokens3B``, ``ckpt_010``, ``step_000512``, …
    A name that counts something other than optimiser steps (Amber's ``ckpt_010`` counts chunks) keeps that count.
    """
    found = _STEP.search(revision)
    return int(found.group(1)) if found else None


def model_short_name(repo: str) -> str:
    """``EleutherAI/pythia-70m`` → ``pythia-70m``: what registry names can hold."""
    short = _UNSAFE.sub("-", repo.rstrip("/").rsplit("/", 1)[-1].lower()).strip("-.")
    if not short:
        raise InvalidInput(f"no registry name can be made of {repo!r}; it needs a letter or a digit")
    return short
