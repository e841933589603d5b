"""Writing: answers to the prompts of a behaviour, and how steering changes the share of untrustworthy ones.

Beside it stands how steering changes the form of the answers: saying less is not being more trustworthy.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from pipelines.behaviours.behaviour import UNTRUSTWORTHY, Behaviour, Prompt
from pipelines.behaviours.form import AnswerForms, FormChange, form_change
from pipelines.estimators.estimate import Estimate, GroupBootstrap, rule_of_three
from pipelines.model_io.continuations import Answers, Offsets, continuations_of_settings
from serving.engine.base import Sampling
from serving.model.language_model import LanguageModel


@dataclass(frozen=True, eq=False)
class Answered:
    """What stands in the answers to some prompts."""

    untrustworthy: Float64[np.ndarray, " n"]
    """1 where the answer is untrustworthy."""
    forms: AnswerForms
    """Of all that was written: where an answer is cut for its score says nothing of its form."""


@dataclass(frozen=True)
class WritingChange:
    """What steering did to answers."""

    fall: Estimate
    """Of the share of untrustworthy answers."""
    form: FormChange


@dataclass(frozen=True, eq=False)
class Writing:
    """Prompts of a behaviour to write answers to, with what the unsteered model answers."""

    behaviour: Behaviour
    prompts: tuple[Prompt, ...]
    plain: Answered
    always: bool
    """Whether answers are written at a strength too that cannot be recommended."""

    @classmethod
    def measured(
        cls, model: LanguageModel, behaviour: Behaviour, prompts: Sequence[Prompt], *, always: bool
    ) -> "Writing":
        (plain,) = answered(model, behaviour, prompts, [{}])
        return cls(behaviour, tuple(prompts), plain, always)

    def changes(
        self, model: LanguageModel, settings: Sequence[Offsets], on_setting: Callable[[], object] = lambda: None
    ) -> list[WritingChange]:
        """What each of ``settings`` does to the answers."""
        steered = answered(model, self.behaviour, self.prompts, settings, on_setting)
        return [self._change(answers) for answers in steered]

    def falls(self, model: LanguageModel, settings: Sequence[Offsets]) -> list[Float64[np.ndarray, " n"]]:
        """By each of ``settings``, 1 where an untrustworthy answer no longer is one, and -1 where it has become one."""
        steered = answered(model, self.behaviour, self.prompts, settings)
        return [self.plain.untrustworthy - answers.untrustworthy for answers in steered]

    def _change(self, steered: Answered) -> WritingChange:
        fall = fall_of_share(self.plain.untrustworthy, steered.untrustworthy)
        return WritingChange(fall, form_change(self.plain.forms, steered.forms))

    @property
    def plain_share(self) -> float:
        """Of the unsteered model's answers, how many are untrustworthy."""
        return float(self.plain.untrustworthy.mean())

    @property
    def unmeasured(self) -> Estimate:
        return Estimate(np.nan, np.nan, np.nan, len(self.prompts))


def answered(
    model: LanguageModel,
    behaviour: Behaviour,
    prompts: Sequence[Prompt],
    settings: Sequence[Offsets],
    on_setting: Callable[[], object] = lambda: None,
) -> list[Answered]:
    """What ``model`` answers under each of ``settings``; an empty answer is untrustworthy."""
    texts, sampling = [prompt.text for prompt in prompts], Sampling(behaviour.tokens, temperature=0.0)
    written = continuations_of_settings(model, texts, sampling, settings, on_setting)
    return [_scored(behaviour, prompts, answers) for answers in written]


def _scored(behaviour: Behaviour, prompts: Sequence[Prompt], written: Answers) -> Answered:
    answers = [behaviour.cut(answer) for answer in written.texts]
    empty = np.array([not answer.strip() for answer in answers])
    untrustworthy: Float64[np.ndarray, " n"] = (behaviour.score(prompts, answers) > UNTRUSTWORTHY) | empty
    return Answered(untrustworthy.astype(np.float64), AnswerForms.of(written))


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
