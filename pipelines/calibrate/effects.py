"""Effects of steering: how far it moves a model's preference between statements, and its cost on ordinary prose."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import compress

import numpy as np
from jaxtyping import Bool, Int64
from torch import Tensor

from pipelines.behaviours.form import FormChange
from pipelines.calibrate.candidates import Candidate
from pipelines.calibrate.writing import Writing
from pipelines.estimators.estimate import Estimate, GroupBootstrap
from pipelines.estimators.preference import preference_shift
from pipelines.model_io.likelihoods import NO_LIKELIHOODS, Likelihoods, ReadingCache, likelihoods
from registry.calibration import CalibrationPoint
from serving.model.language_model import LanguageModel

PREFERENCE = "preference"
CHEAP = 1.10
"""A recommended strength raises perplexity by at most a tenth: the upper end of the ratio's interval on validation."""


@dataclass(frozen=True, eq=False)
class MeasuredProse:
    """Ordinary sentences, as the unsteered model has them."""

    sentences: tuple[str, ...]
    plain: Likelihoods
    cache: ReadingCache

    @classmethod
    def measured(cls, model: LanguageModel, sentences: Sequence[str], layers: Collection[int] = ()) -> "MeasuredProse":
        """``layers`` are the lowest ones of what will steer it."""
        cache = ReadingCache(layers)
        return cls(tuple(sentences), likelihoods(model, sentences, cache=cache), cache)

    def cost(self, model: LanguageModel, offsets: Mapping[int, Tensor]) -> Estimate:
        """Their perplexity under ``offsets``, over that of the unsteered model."""
        return perplexity_ratio(self.plain, likelihoods(model, self.sentences, offsets, cache=self.cache))


@dataclass(frozen=True, eq=False)
class Texts:
    """Statements, or prompts to write answers to, and prose to measure on, each as the unsteered model has them."""

    statements: tuple[str, ...]
    labels: Bool[np.ndarray, " n"]
    groups: Int64[np.ndarray, " n"]
    prose: MeasuredProse
    plain: Likelihoods
    """Of the statements, where their likelihood decides."""
    cache: ReadingCache
    """Of the statements."""
    writing: Writing | None = None
    """Where what is written decides, and not the likelihood of statements."""

    @classmethod
    def measured(
        cls,
        model: LanguageModel,
        statements: Sequence[str],
        labels: Bool[np.ndarray, " n"],
        groups: Int64[np.ndarray, " n"],
        prose: MeasuredProse,
        writing: Writing | None = None,
        layers: Collection[int] = (),
    ) -> "Texts":
        """``layers`` are the lowest ones of what will steer them."""
        cache = ReadingCache(layers)
        plain = likelihoods(model, statements, cache=cache) if writing is None else NO_LIKELIHOODS
        return cls(tuple(statements), labels, groups, prose, plain, cache, writing)

    def steered(self, model: LanguageModel, offsets: Mapping[int, Tensor]) -> Likelihoods:
        """The statements as the model has them under ``offsets``."""
        return likelihoods(model, self.statements, offsets, cache=self.cache)


@dataclass(frozen=True)
class Effect:
    """The effect of one candidate at one strength."""

    label: str
    layers: tuple[int, ...]
    strength: float
    perplexity: Estimate
    """Of prose, over that of the unsteered model; the interval resamples sentences."""
    shift: Estimate
    """Towards trustworthy: of preference in nats, or the fall of the share of untrustworthy answers."""
    behaviour: str = ""
    """Which answers those are, where it is of answers."""
    unsteered: float | None = None
    """The share of such answers without steering."""
    form: FormChange | None = None
    """Of the answers that were written; ``None`` where none were."""

    @property
    def keeps_form(self) -> bool:
        """Whether answers surely repeat themselves no more and are as long as before; where there are none, they do."""
        return self.form is None or self.form.is_kept

    @property
    def is_usable(self) -> bool:
        """Whether it may be chosen: for what it costs, and for what answers it leaves."""
        return self.is_surely_cheap and self.keeps_form

    @property
    def is_surely_cheap(self) -> bool:
        """Asked of a choice: on other prose a strength at the limit would pass it as often as not."""
        return self.perplexity.high <= CHEAP

    @property
    def is_cheap(self) -> bool:
        """Asked of a choice that is tested, on prose that it was not made on."""
        return self.perplexity.value <= CHEAP

    @property
    def is_measured(self) -> bool:
        """Answers are only written at strengths that may be recommended."""
        return not np.isnan(self.shift.value)

    @property
    def measure(self) -> str:
        return self.behaviour or PREFERENCE

    def describe(self) -> str:
        """What it did, to follow the name of the candidate."""
        if self.behaviour:
            return f"lowered the share of {self.behaviour} by {self.shift}"
        return f"moved preference by {self.shift} nats"

    def to_point(self) -> CalibrationPoint:
        shift = self.shift
        return CalibrationPoint(self.strength, self.perplexity.value, shift.value, shift.low, shift.high)


@dataclass(frozen=True, eq=False)
class CostedStrength:
    """One candidate at one strength, and its cost."""

    candidate: Candidate
    strength: float
    perplexity: Estimate
    """Of prose, as in ``Effect``."""

    @property
    def is_surely_cheap(self) -> bool:
        return self.perplexity.high <= CHEAP

    @property
    def offsets(self) -> dict[int, Tensor]:
        """What is added to every position."""
        return self.candidate.offsets(self.strength)

    def effect(self, shift: Estimate) -> Effect:
        return Effect(self.candidate.label, self.candidate.layers, self.strength, self.perplexity, shift)


def measure_cost(model: LanguageModel, texts: Texts, candidate: Candidate, strength: float) -> CostedStrength:
    """``candidate`` added at ``strength`` to every position, with what that costs on prose."""
    return CostedStrength(candidate, strength, texts.prose.cost(model, candidate.offsets(strength)))


def measure_effects(
    model: LanguageModel,
    texts: Texts,
    settings: Sequence[CostedStrength],
    on_setting: Callable[[], object] = lambda: None,
) -> tuple[Effect, ...]:
    """The effect of each of ``settings``. Answers are written together, so that one engine serves all of them."""
    if texts.writing is not None:
        return tuple(_effects_on_writing(model, texts.writing, settings, on_setting))
    effects = []
    for setting in settings:
        steered = texts.steered(model, setting.offsets)
        shift = preference_shift(texts.plain.log_probabilities, steered.log_probabilities, texts.labels, texts.groups)
        effects.append(setting.effect(shift))
        on_setting()
    return tuple(effects)


def _effects_on_writing(
    model: LanguageModel, writing: Writing, settings: Sequence[CostedStrength], on_setting: Callable[[], object]
) -> Iterator[Effect]:
    written = [writing.always or (setting.strength > 0 and setting.is_surely_cheap) for setting in settings]
    changes = iter(writing.changes(model, [each.offsets for each in compress(settings, written)], on_setting))
    for setting, is_written in zip(settings, written, strict=True):
        change = next(changes) if is_written else None
        effect = setting.effect(change.fall if change else writing.unmeasured)
        form = change.form if change else None
        yield replace(effect, behaviour=writing.behaviour.name, unsteered=writing.plain_share, form=form)


def no_effect(texts: Texts, candidate: Candidate) -> Effect:
    """Strength 0, which need not be measured."""
    ratio, writing = Estimate(1.0, 1.0, 1.0, len(texts.prose.sentences)), texts.writing
    n = len(texts.statements if writing is None else writing.prompts)
    effect = Effect(candidate.label, candidate.layers, 0.0, ratio, Estimate(0.0, 0.0, 0.0, n))
    if writing is None:
        return effect
    return replace(effect, behaviour=writing.behaviour.name, unsteered=writing.plain_share)


def perplexity_ratio(before: Likelihoods, after: Likelihoods) -> Estimate:
    """Perplexity of ``after`` over that of ``before``, by token, on the same texts.

    The interval is made of the logarithm of the ratio; it resamples texts, of which long ones weigh more.
    """
    lost, tokens = before.log_probabilities - after.log_probabilities, before.tokens
    columns = np.stack([lost, tokens], axis=1).astype(np.float64)
    log_ratio = GroupBootstrap(np.arange(len(tokens))).statistic(columns, lambda means: means[..., 0] / means[..., 1])
    value, low, high = np.exp([log_ratio.value, log_ratio.low, log_ratio.high])
    return Estimate(float(value), float(low), float(high), len(tokens))
