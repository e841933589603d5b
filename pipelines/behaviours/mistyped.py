"""Mistyped questions: whether a model answers a question with typing errors as it answers the same one without.

The answer that counts is the model's own, unsteered, to the question as it should be, right or wrong: a model that says
the same to whatever it is asked does not give it. Questions are those of NQ-open (Kwiatkowski et al. 2019), asked of a
search engine, after two that show how short an answer is; half of them are kept for vectors, the others for
evaluations, which mistype them otherwise: by letters in the wrong order and not by neighbouring keys. How far two
answers agree is told as in SQuAD (Rajpurkar et al. 2016): for vectors by exact match, for evaluations by the F1 of
their words.
"""

import json
import re
import string
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from typing import Literal, Protocol

import numpy as np

from pipelines.behaviours.behaviour import Behaviour, Prompt
from pipelines.model_io.answer_keys import answer_key
from pipelines.model_io.continuations import continuations
from pipelines.statements.lexicons import asked_questions
from pipelines.statements.perturbations import keyboard_typos, swapped_letters
from registry.cache import cache_root, write_whole
from serving.engine.base import Sampling
from serving.model.language_model import LanguageModel

FORM = (
    "Question: Who wrote Romeo and Juliet?\nAnswer: William Shakespeare.\n\n"
    "Question: What is the capital of France?\nAnswer: Paris.\n\n"
    "Question: {question}?\nAnswer:"
)
TOKENS = 12
ENDS = "\n"
TYPO_RATE = 0.3
"""Of the words of four letters or more."""
QUESTIONS = 600
"""Of the half that is kept for vectors: more than any of their uses asks for."""
SAME = 0.5
"""The F1 of two answers' words from which they count as the same."""
_RECIPE = 1
_ARTICLE = re.compile(r"\b(?:a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


class Typos(Protocol):
    """Mistypes a share ``rate`` of the longer words of a text."""

    def __call__(self, text: str, rng: np.random.Generator, *, rate: float) -> str: ...


def mistyped_questions(use: Literal["vectors", "evaluation"], seed: int = 0) -> tuple[Prompt, ...]:
    """Half of the questions, each with its mistyped form; no question is left as it was."""
    if use == "evaluation":
        return tuple(_mistyped(asked_questions()[1::2], swapped_letters, seed))
    return tuple(_mistyped(asked_questions()[::2][:QUESTIONS], keyboard_typos, seed))


def _mistyped(questions: Sequence[str], typos: Typos, seed: int) -> Iterator[Prompt]:
    rng = np.random.default_rng(seed)
    for question in questions:
        perturbed = typos(question, rng, rate=TYPO_RATE)
        if perturbed != question:
            yield Prompt(FORM.format(question=perturbed), clean=FORM.format(question=question))


def with_clean_answers(model: LanguageModel, behaviour: Behaviour) -> Behaviour:
    """``behaviour`` whose trustworthy answers are those of ``model`` to its clean texts, where it has such texts."""
    if not any(prompt.clean for prompts in behaviour.prompts.values() for prompt in prompts):
        return behaviour
    texts = [prompt.clean for prompts in behaviour.prompts.values() for prompt in prompts]
    answers = dict(zip(texts, clean_answers(model, texts, behaviour.tokens), strict=True))
    prompts = {
        use: tuple(replace(prompt, trustworthy=behaviour.cut(answers[prompt.clean])) for prompt in of_use)
        for use, of_use in behaviour.prompts.items()
    }
    return replace(behaviour, prompts=prompts)


def clean_answers(model: LanguageModel, texts: Sequence[str], tokens: int) -> tuple[str, ...]:
    """What ``model`` writes greedily after each of ``texts``; written once, and then kept."""
    sampling = Sampling(tokens, temperature=0.0)
    key = answer_key(model, {"recipe": _RECIPE, "texts": list(texts), "sampling": asdict(sampling)})
    path = cache_root() / "clean_answers" / f"{key}.json"
    try:
        kept = json.loads(path.read_text())
    except (OSError, ValueError):
        kept = None
    if isinstance(kept, list) and len(kept) == len(texts) and all(isinstance(text, str) for text in kept):
        return tuple(kept)
    answers = continuations(model, texts, sampling)
    write_whole(path, json.dumps(answers, indent=1))
    return answers


def first_line(answer: str) -> str:
    """What follows is another question."""
    return answer.strip().split(ENDS, 1)[0]


def is_same(answer: str, clean: str) -> bool:
    """Exact match, but for case, articles and punctuation."""
    return words_of(answer) == words_of(clean)


def agreement(answer: str, clean: str) -> float:
    """F1 of the words of two answers, from 0 to 1; two without a word agree."""
    one_side, other = Counter(words_of(answer)), Counter(words_of(clean))
    if not one_side or not other:
        return float(one_side == other)
    return 2 * (one_side & other).total() / (one_side.total() + other.total())


def words_of(answer: str) -> list[str]:
    """In lower case, without articles and punctuation."""
    return _ARTICLE.sub(" ", answer.lower().translate(_PUNCTUATION)).split()
