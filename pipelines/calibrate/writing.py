"""Writing: answers to the prompts of a behaviour, and how steering changes the share of untrustworthy ones."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from pipelines.behaviours.behaviour import UNTRUSTWORTHY, Behaviour, Prompt
from pipelines.estimators.estimate import Estimate, GroupBootstrap, rule_of_three
from pipelines.model_io.continuations import Offsets, continuations_of_settings
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
        (plain,) = untrustworthy_answers(model, behaviour, prompts, [{}])
        return cls(behaviour, tuple(prompts), plain, always)

    def shifts(
        self, model: LanguageModel, settings: Sequence[Offsets], on_setting: Callable[[], object] = lambda: None
    ) -> list[Estimate]:
        """By how much each of ``settings`` lowers the share of untrustworthy answers."""
        steered = untrustworthy_answers(model, self.behaviour, self.prompts, settings, on_setting)
        return [fall_of_share(self.plain, answers) for answers in steered]

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
    settings: Sequence[Offsets],
    on_setting: Callable[[], object] = lambda: None,
) -> list[Float64[np.ndarray, " n"]]:
    """For each of ``settings``, 1 for each prompt that ``model`` answers untrustworthily; an empty answer is so too."""
    texts, sampling = [prompt.text for prompt in prompts], Sampling(behaviour.tokens, temperature=0.0)
    written = continuations_of_settings(model, texts, sampling, settings, on_setting)
    return [_untrustworthy(behaviour, prompts, answers) for answers in written]


def _untrustworthy(
    behaviour: Behaviour, prompts: Sequence[Prompt], written: Sequence[str]
) -> Float64[np.ndarray, " n"]:
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
