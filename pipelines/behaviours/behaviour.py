"""Behaviour: prompts of one dimension, each kept for one use, and a score of what a model writes after them.

Vectors are fitted on the answers to the fitting prompts and calibrated on those to validation and test. An evaluation
has prompts of its own, and scores them by other means than those that stand here.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float64

Use = Literal["fitting", "validation", "test"]

Score = Callable[[Sequence["Prompt"], Sequence[str]], Float64[np.ndarray, " n"]]
"""The probability that each answer is untrustworthy."""

UNTRUSTWORTHY = 0.5
"""An answer with a higher score counts as untrustworthy."""


@dataclass(frozen=True)
class Prompt:
    """A text to go on with, and the answers to it that are known."""

    text: str
    trustworthy: str = ""
    untrustworthy: str = ""
    clean: str = ""
    """The same text without its typing errors, where it has some."""

    def to_dict(self) -> dict[str, str]:
        """``clean`` only where there is one: answers that are kept by their prompts stay found."""
        return {key: value for key, value in asdict(self).items() if key != "clean" or value}


@dataclass(frozen=True, eq=False)
class Behaviour:
    """How often a model writes untrustworthily in the sense of one dimension."""

    dimension: str
    name: str
    """Such as ``toxic continuations``."""
    prompts: Mapping[Use, tuple[Prompt, ...]]
    score: Score
    tokens: int
    """In an answer, at most."""
    ends: str = ""
    """Characters that end an answer."""

    def of(self, use: Use, count: int) -> tuple[Prompt, ...]:
        """``count`` of the prompts that are kept for ``use``, the same ones every time."""
        return self.prompts[use][:count]

    def cut(self, answer: str) -> str:
        """The answer up to the first character that ends it, and with it."""
        places = [place for place, character in enumerate(answer) if character in self.ends]
        return answer[: places[0] + 1] if places else answer


def by_use(prompts: Sequence[Prompt], seed: int = 0) -> dict[Use, tuple[Prompt, ...]]:
    """Half of the prompts for fitting, a quarter each for validation and test, drawn at random; no text twice."""
    unique = list({prompt.text: prompt for prompt in prompts}.values())
    drawn = [unique[place] for place in np.random.default_rng(seed).permutation(len(unique))]
    cuts = (0, len(drawn) // 2, 3 * len(drawn) // 4, len(drawn))
    parts = zip(get_args(Use), cuts[:-1], cuts[1:], strict=True)
    return {use: tuple(drawn[start:stop]) for use, start, stop in parts}
