"""Joint calibration: the champions of all calibrated dimensions at once, as strong as prose stays cheap.

Each strength was chosen alone, and their costs add up. While prose costs too much, the champion that keeps most of its
effect beside the others gives way by a step, and further while that lets the one that keeps least keep more, which then
takes back what prose still allows. This is decided on the validation halves. What all do together is then measured once
on the test halves. Costs that add up are less certain than one, so that prose is all that is kept for each half.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from pipelines.calibrate.candidates import Candidate
from pipelines.calibrate.effects import MeasuredProse, Texts
from pipelines.calibrate.splits import HALVES
from pipelines.estimators.estimate import (
    Estimate,
    GroupBootstrap,
    class_columns,
    difference_of_class_means,
    mean_of_first,
)
from pipelines.estimators.preference import preference_shift
from pipelines.statements.prose import prose_for
from registry.joint import JointLimit
from registry.records import RegisteredVector
from serving.model.language_model import LanguageModel

SCALES = (1.0, 0.85, 0.7, 0.6, 0.5, 0.4, 0.3, 0.25)
JOINT_CHEAP = 1.15
"""Perplexity of all champions together, over that of the unsteered model, at most: on validation the upper end of the
ratio's interval, as for a champion alone."""
LEAST_KEPT = 0.7
"""The share of its own effect that each dimension keeps."""


@dataclass(frozen=True, eq=False)
class JointMember:
    """A champion at the strength that is recommended for it alone, and the texts of its dimension."""

    registered: RegisteredVector
    candidate: Candidate
    strength: float
    validation: Texts
    test: Texts


def joint_prose(
    model: LanguageModel, members: Sequence[JointMember], seen: Collection[str]
) -> tuple[MeasuredProse, MeasuredProse]:
    """All prose for the validation half and all for the test half, none of it among the ``seen`` texts."""
    layers = [min(min(member.candidate.layers) for member in members)]
    validation, test = (MeasuredProse.measured(model, prose_for(use, seen), layers) for use in HALVES)
    return validation, test


@dataclass(frozen=True, eq=False)
class JointEffect:
    """All members together on their test halves, at the scales that validation prose allows."""

    members: tuple[JointMember, ...]
    scales: tuple[float, ...]
    perplexity: Estimate
    kept: tuple[Estimate, ...]
    """By member: its dimension's effect under all of them, over that under it alone at its full strength."""

    @property
    def holds(self) -> bool:
        """Whether each dimension keeps enough of its effect, and all together stay cheap."""
        return min(kept.value for kept in self.kept) >= LEAST_KEPT and self.perplexity.value <= JOINT_CHEAP

    def to_limit(self, run_id: str) -> JointLimit:
        names = [member.registered.dimension for member in self.members]
        strengths, shares = [member.strength for member in self.members], [kept.value for kept in self.kept]
        by_name = (dict(zip(names, values, strict=True)) for values in (strengths, shares, self.scales))
        alone, kept, scales = by_name
        mean = sum(self.scales) / len(self.scales)
        return JointLimit(alone, mean, self.perplexity.value, kept, run_id, scales)

    def describe(self) -> str:
        """One line: strengths, cost, and what is kept."""
        together = ", ".join(
            f"{member.registered.dimension} {scale * member.strength:.3g} (keeps {kept.value:z.0%} "
            f"[{kept.low:z.0%}, {kept.high:z.0%}] of its effect)"
            for member, scale, kept in zip(self.members, self.scales, self.kept, strict=True)
        )
        verdict = "" if self.holds else f"; asked for were {LEAST_KEPT:.0%} of each at {JOINT_CHEAP:g} times at most"
        return f"Together: {together} at {self.perplexity} times the perplexity{verdict}"


def measure_joint(model: LanguageModel, members: Sequence[JointMember], seen: Collection[str]) -> JointEffect | None:
    """What ``members`` do together, on prose that is not among the ``seen`` texts; ``None`` for fewer than two."""
    if len(members) < 2:
        return None
    validation, test = joint_prose(model, members, seen)
    scales = _allowed_scales(model, members, validation)
    kept = tuple(kept_share(model, member, members, scales) for member in members)
    return JointEffect(tuple(members), scales, test.cost(model, joint_offsets(members, scales)), kept)


def kept_share(
    model: LanguageModel, member: JointMember, members: Sequence[JointMember], scales: Sequence[float]
) -> Estimate:
    """What is left under all ``members`` of the effect that one has alone, on its test half; 0 where it has none."""
    texts, settings = member.test, [joint_offsets([member], [1.0]), joint_offsets(members, scales)]
    if texts.writing is not None:
        groups, labels, statistic = np.arange(len(texts.writing.prompts)), None, mean_of_first
        alone, together = (fall[:, None] for fall in texts.writing.falls(model, settings))
    else:
        groups, labels, statistic = texts.groups, texts.labels, difference_of_class_means
        alone, together = (class_columns(rise, texts.labels) for rise in _rises(model, texts, settings))
    if statistic(alone.mean(axis=0)) <= 0:
        return Estimate(0.0, 0.0, 0.0, len(groups))
    width = alone.shape[1]
    return GroupBootstrap(groups).statistic(
        np.concatenate([together, alone], axis=1),
        lambda means: statistic(means[..., :width]) / statistic(means[..., width:]),
        labels=labels,
    )


def _allowed_scales(model: LanguageModel, members: Sequence[JointMember], prose: MeasuredProse) -> tuple[float, ...]:
    """By member, how far its strength has to give way until validation prose is cheap, or no further step is left."""
    steps = [0] * len(members)
    alone = [_alone(model, member, member.validation) for member in members]
    kept = _all_kept(model, members, steps, alone)
    while not _is_cheap(model, members, prose, steps):
        lower = _given_way(steps, kept)
        if lower is None:
            return _scales(steps)
        steps, kept = lower, _all_kept(model, members, lower, alone)
    while (lower := _given_way(steps, kept)) and min(more := _all_kept(model, members, lower, alone)) > min(kept):
        steps, kept = lower, more
    least = min(range(len(members)), key=kept.__getitem__)
    while steps[least] and _is_cheap(model, members, prose, _moved(steps, least, -1)):
        steps = _moved(steps, least, -1)
    return _scales(steps)


def _given_way(steps: Sequence[int], kept: Sequence[float]) -> list[int] | None:
    """``steps`` with one more of the member that keeps most; ``None`` where none has a further one."""
    able = [place for place, step in enumerate(steps) if step + 1 < len(SCALES)]
    return _moved(steps, max(able, key=kept.__getitem__), 1) if able else None


def _all_kept(
    model: LanguageModel, members: Sequence[JointMember], steps: Sequence[int], alone: Sequence[float]
) -> list[float]:
    return [
        _kept(model, members, _scales(steps), own, member.validation)
        for member, own in zip(members, alone, strict=True)
    ]


def _is_cheap(model: LanguageModel, members: Sequence[JointMember], prose: MeasuredProse, steps: Sequence[int]) -> bool:
    return prose.cost(model, joint_offsets(members, _scales(steps))).high <= JOINT_CHEAP


def _scales(steps: Sequence[int]) -> tuple[float, ...]:
    return tuple(SCALES[step] for step in steps)


def _moved(steps: Sequence[int], place: int, by: int) -> list[int]:
    return [step + by * (at == place) for at, step in enumerate(steps)]


def joint_offsets(members: Sequence[JointMember], scales: Sequence[float]) -> dict[int, Tensor]:
    """What all ``members`` add to every position at ``scales`` times their strengths, by layer."""
    offsets: dict[int, Tensor] = {}
    for member, scale in zip(members, scales, strict=True):
        for layer, offset in member.candidate.offsets(scale * member.strength).items():
            offsets[layer] = offset + offsets.get(layer, torch.zeros_like(offset))
    return offsets


def _alone(model: LanguageModel, member: JointMember, texts: Texts) -> float:
    """The effect of ``member`` alone at its full strength, on its dimension's ``texts``."""
    return shifts(model, texts, [joint_offsets([member], [1.0])])[0]


def _kept(
    model: LanguageModel, members: Sequence[JointMember], scales: Sequence[float], alone: float, texts: Texts
) -> float:
    """The effect of all ``members`` on the ``texts`` of one of them, over its effect ``alone``."""
    (together,) = shifts(model, texts, [joint_offsets(members, scales)])
    return together / alone if alone > 0 else 0.0


def shifts(model: LanguageModel, texts: Texts, settings: Sequence[Mapping[int, Tensor]]) -> list[float]:
    """The effect of each of ``settings``, on what is written where that decides, else on preference."""
    if texts.writing is not None:
        return [change.fall.value for change in texts.writing.changes(model, settings)]
    return list(_preference_shifts(model, texts, settings))


def _preference_shifts(model: LanguageModel, texts: Texts, settings: Sequence[Mapping[int, Tensor]]) -> Iterator[float]:
    for rise in _rises(model, texts, settings):
        yield preference_shift(np.zeros(len(rise)), rise, texts.labels, texts.groups).value


def _rises(
    model: LanguageModel, texts: Texts, settings: Sequence[Mapping[int, Tensor]]
) -> Iterator[Float64[np.ndarray, " n"]]:
    """Of each statement's log-probability, in nats, under each of ``settings``."""
    for offsets in settings:
        yield texts.steered(model, offsets).log_probabilities - texts.plain.log_probabilities
