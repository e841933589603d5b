"""Contrast set: answers to the same prompts, one trustworthy and one not, written by the model itself where it does.

Such answers are where a steering vector acts, so directions read on them move what is written further than directions
read on statements, or on untrustworthy answers that somebody else wrote. A set is made once for each model and
behaviour, and kept in the cache.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from pipelines.behaviours.behaviour import Behaviour, Prompt
from pipelines.model_io.answer_keys import answer_key
from pipelines.model_io.continuations import continuations
from registry.cache import cache_root, write_whole
from registry.counts import counted
from registry.errors import InvalidInput
from serving.engine.base import Sampling
from serving.model.language_model import LanguageModel

RECIPE = 3
"""Raised when the code changes which pairs come out."""
PROMPTS = 160
SAMPLES = 6
"""Of each prompt's answer: with 2 SmolLM2 wrote a toxic one to a third of the prompts, with 6 to half of them."""
TRUSTWORTHY, UNTRUSTWORTHY = 0.3, 0.7
"""Answers with a score between are left out."""
FEWEST_PAIRS = 30


@dataclass(frozen=True)
class ContrastPair:
    """Two answers to one prompt."""

    prompt: str
    trustworthy: str
    untrustworthy: str


@dataclass(frozen=True)
class ContrastSet:
    """The pairs of one model and behaviour. Raises ``InvalidInput`` for too few of them."""

    dimension: str
    behaviour: str
    pairs: tuple[ContrastPair, ...]
    n_prompts: int
    """Prompts that the model was given."""

    def __post_init__(self) -> None:
        if len(self.pairs) < FEWEST_PAIRS:
            raise InvalidInput(
                f"{counted(self.n_prompts, 'prompt')} gave {counted(len(self.pairs), 'pair')} of a trustworthy "
                f"and an untrustworthy answer "
                f"for {self.dimension} ({self.behaviour}), and {FEWEST_PAIRS} are needed; leave response-mean out"
            )

    @property
    def source(self) -> str:
        return f"answers:{self.behaviour.replace(' ', '-')}"

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the pairs in their order."""
        return hashlib.sha256(json.dumps([asdict(pair) for pair in self.pairs]).encode()).hexdigest()


def contrast_set(model: LanguageModel, behaviour: Behaviour, *, seed: int = 0) -> ContrastSet:
    """The pairs that ``model`` gives for the fitting prompts of ``behaviour``; sampled once, and then kept."""
    prompts, sampling = behaviour.of("fitting", PROMPTS), Sampling(behaviour.tokens, temperature=1.0, seed=seed)
    path = cache_root() / "contrast" / f"{_key(model, behaviour, prompts, sampling)}.json"
    kept = _read(path)
    if kept is not None:
        return ContrastSet(behaviour.dimension, behaviour.name, *kept)
    pairs = tuple(_pairs(model, behaviour, prompts, sampling))
    made = ContrastSet(behaviour.dimension, behaviour.name, pairs, len(prompts))
    write_whole(path, json.dumps({"n_prompts": len(prompts), "pairs": [asdict(pair) for pair in pairs]}, indent=1))
    return made


def _pairs(
    model: LanguageModel, behaviour: Behaviour, prompts: Sequence[Prompt], sampling: Sampling
) -> list[ContrastPair]:
    """Of each prompt the best and the worst answer that the model wrote, or else the known one, where both are clear.

    A right answer that is known goes before one that the model wrote, which may be right by chance.
    """
    repeated = [prompt for prompt in prompts for _ in range(SAMPLES)]
    written = continuations(model, [prompt.text for prompt in repeated], sampling)
    answers = [behaviour.cut(answer) for answer in written]
    scores = behaviour.score(repeated, answers)
    pairs = []
    for start, prompt in zip(range(0, len(answers), SAMPLES), prompts, strict=True):
        own, scored = answers[start : start + SAMPLES], scores[start : start + SAMPLES]
        best, worst = int(np.argmin(scored)), int(np.argmax(scored))
        good = prompt.trustworthy or (own[best] if scored[best] <= TRUSTWORTHY else "")
        bad = own[worst] if scored[worst] >= UNTRUSTWORTHY else prompt.untrustworthy
        if good.strip() and bad.strip():
            pairs.append(ContrastPair(prompt.text, good, bad))
    return pairs


def _key(model: LanguageModel, behaviour: Behaviour, prompts: Sequence[Prompt], sampling: Sampling) -> str:
    content = {
        "recipe": RECIPE,
        "behaviour": behaviour.name,
        "prompts": [prompt.to_dict() for prompt in prompts],
        "samples": SAMPLES,
        "sampling": asdict(sampling),
    }
    return answer_key(model, content)


def _read(path: Path) -> tuple[tuple[ContrastPair, ...], int] | None:
    """The pairs kept at ``path`` and their number of prompts; ``None`` where there are none that can be read."""
    try:
        content = json.loads(path.read_text())
        return tuple(ContrastPair(**pair) for pair in content["pairs"]), int(content["n_prompts"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
