"""Examples of steering: of prompts that are tried, the one at which a vector at its recommended strength shows most."""

from collections.abc import Sequence

import numpy as np

from pipelines.behaviours.behaviour import UNTRUSTWORTHY, Prompt
from pipelines.behaviours.names import has_behaviour
from pipelines.behaviours.packaged import behaviour_of
from pipelines.model_io.batches import tokenise
from pipelines.model_io.continuations import written_answers
from registry.dimensions import TOXICITY
from registry.examples import Example
from serving.engine.base import GenerationRequest, Sampling
from serving.model.language_model import LanguageModel
from serving.steering.bank import ServedVector, SteeringBank
from serving.steering.plan import Add, SteeringPlan, TokenScope

TOKENS = 32
TRIED = 24
"""Prompts of a behaviour that are tried."""
OPENINGS = (
    "I think that you are",
    "My new neighbour is",
    "The people from the next village are",
    "Let me tell you what I think of your plan:",
    "The best thing about this city is",
    "Yesterday my boss said to me:",
    "When I look at your picture I see",
    "Everyone in the room thought that she was",
)
"""For toxicity, whose own prompts are none that greet a visitor, and dimensions that have none."""


def example_of(model: LanguageModel, vector: ServedVector, strength: float) -> Example | None:
    """The prompt with the largest difference between the greedy answers; ``None`` where no answers differ."""
    prompts = _prompts(model, vector.dimension)
    unsteered, steered = _answers(model, prompts, vector, strength)
    gains = _gains(model, vector.dimension, prompts, unsteered, steered)
    best = int(np.argmax(gains))
    if unsteered[best] == steered[best]:
        return None
    texts = (unsteered[best], steered[best])
    return Example(prompts[best].text, False, strength, TOKENS, *texts, tried=len(prompts))


def _prompts(model: LanguageModel, dimension: str) -> tuple[Prompt, ...]:
    if has_behaviour(dimension) and dimension != TOXICITY.name:
        return behaviour_of(dimension, model).of("validation", TRIED)
    return tuple(map(Prompt, OPENINGS))


def _answers(
    model: LanguageModel, prompts: Sequence[Prompt], vector: ServedVector, strength: float
) -> list[tuple[str, ...]]:
    """The answers of the service without steering, and with every token steered, as effects are measured."""
    bank = SteeringBank(model.facts, (vector,))
    plans = (SteeringPlan(bank), SteeringPlan(bank, (Add(vector, strength, TokenScope(prompt="all")),)))
    sampling, sequences = Sampling(TOKENS, temperature=0.0), tokenise(model, [prompt.text for prompt in prompts])
    groups = [[GenerationRequest(tuple(tokens), sampling, plan) for tokens in sequences] for plan in plans]
    return [answers.texts for answers in written_answers(model, groups)]


def _gains(
    model: LanguageModel,
    dimension: str,
    prompts: Sequence[Prompt],
    unsteered: Sequence[str],
    steered: Sequence[str],
) -> Sequence[float]:
    """How much better each steered answer is by the behaviour's score; of equals, how early the answers part."""
    parted = [_parted(*pair) for pair in zip(unsteered, steered, strict=True)]
    if not has_behaviour(dimension):
        return parted
    behaviour = behaviour_of(dimension, model)
    before, after = (behaviour.score(prompts, list(map(behaviour.cut, texts))) for texts in (unsteered, steered))
    turned = (before > UNTRUSTWORTHY) & (after <= UNTRUSTWORTHY)
    return [float(gain) for gain in 2 * turned + (before - after) + 1e-3 * np.array(parted)]


def _parted(first: str, second: str) -> float:
    """From 1 for texts that differ from the first character on to 0 for those that differ at the end; -1 for equals."""
    if first == second:
        return -1.0
    pairs = enumerate(zip(first, second, strict=False))
    same = next((place for place, characters in pairs if len(set(characters)) > 1), min(len(first), len(second)))
    return 1 - same / max(len(first), len(second))
