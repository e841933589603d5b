"""Writing: answers to the prompts of a behaviour, and how steering changes the share of untrustworthy ones."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from torch import Tensor

from pipelines.behaviours.behaviour import UNTRUSTWORTHY, Behaviour, Prompt
from pipelines.estimators.estimate import Estimate, GroupBootstrap, rule_of_three
from pipelines.model_io.continuations import continuations
from serving.engine.base import Sampling
from serving.model.language_model import LanguageModel


@dataclass(frozen=True, eq=False)
class Writing:
    """Prompts of a behaviour to write answers to, with the scores of the unsteered model's answers."""

    behaviour: Behaviour
    prompts: tuple[Prompt, ...]
    plain: Float64[np.ndarray, " n"]
    """1 where the answer is untrustworthy."""
    always: bool
    """Whether answers are written at a strength too that cannot be recommended."""

    @classmethod
    def measured(
        cls, model: LanguageModel, behaviour: Behaviour, prompts: Sequence[Prompt], *, always: bool
    ) -> "Writing":
        return cls(behaviour, tuple(prompts), untrustworthy_answers(model, behaviour, prompts), always)

    def shift(self, model: LanguageModel, offsets: Mapping[int, Tensor]) -> Estimate:
        """By how much steering by ``offsets`` lowers the share of untrustworthy answers."""
        return fall_of_share(self.plain, untrustworthy_answers(model, self.behaviour, self.prompts, offsets))

    @property
    def plain_share(self) -> float:
        """Of the unsteered model's answers, how many are untrustworthy."""
        return float(self.plain.mean())

    @property
    def unmeasured(self) -> Estimate:
        return Estimate(np.nan, np.nan, np.nan, len(self.prompts))


def untrustworthy_answers(
    model: LanguageModel,
    behaviour: Behaviour,
    prompts: Sequence[Prompt],
    offsets: Mapping[int, Tensor] | None = None,
) -> Float64[np.ndarray, " n"]:
    """1 for each prompt that ``model``, steered by ``offsets``, answers untrustworthily; an empty answer is so too."""
    written = continuations(
        model, [prompt.text for prompt in prompts], Sampling(behaviour.tokens, temperature=0.0), offsets
    )
    answers = [behaviour.cut(answer) for answer in written]
    empty = np.array([not answer.strip() for answer in answers])
    untrustworthy: Float64[np.ndarray, " n"] = (behaviour.score(prompts, answers) > UNTRUSTWORTHY) | empty
    return untrustworthy.astype(np.float64)


def fall_of_share(before: Float64[np.ndarray, " n"], after: Float64[np.ndarray, " n"]) -> Estimate:
    """By how much the mean of 0s and 1s fell, on the same prompts."""
    columns = np.stack([before, after], axis=1)
    bootstrap = GroupBootstrap(np.arange(len(before)))
    fall = bootstrap.statistic(columns, lambda means: means[..., 0] - means[..., 1], bounds=(-1.0, 1.0))
    if fall.low < fall.high:
        return fall
    # As many changed answers in every prompt, mostly none, is no proof that none would change.
    farthest = rule_of_three(len(before))
    return Estimate(fall.value, max(fall.value - farthest, -1.0), min(fall.value + farthest, 1.0), fall.n)
