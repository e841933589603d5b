"""Joint calibration: the champions of all calibrated dimensions at once, as strong as prose stays cheap.

Each strength was chosen alone, and their costs add up. All are scaled by one factor, the largest at which validation
prose stays within ``JOINT_CHEAP``. What they do together is then measured once on the test halves.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pipelines.calibrate.candidates import Candidate
from pipelines.calibrate.effects import Texts, perplexity_ratio
from pipelines.estimators.estimate import Estimate
from pipelines.estimators.preference import preference_shift
from pipelines.model_io.likelihoods import likelihoods
from registry.joint import JointLimit
from registry.records import RegisteredVector
from serving.model.language_model import LanguageModel

SCALES = (1.0, 0.85, 0.7, 0.5, 0.35, 0.25)
JOINT_CHEAP = 1.15
"""Perplexity of all champions together, over that of the unsteered model, at most."""
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


@dataclass(frozen=True, eq=False)
class JointEffect:
    """All members together on their test halves, at the scale that validation prose allows."""

    members: tuple[JointMember, ...]
    scale: float
    perplexity: Estimate
    kept: tuple[float, ...]
    """By member: its dimension's effect under all of them, over that under it alone at its full strength."""

    @property
    def holds(self) -> bool:
        """Whether each dimension keeps enough of its effect, and all together stay cheap."""
        return min(self.kept) >= LEAST_KEPT and self.perplexity.value <= JOINT_CHEAP

    def to_limit(self, run_id: str) -> JointLimit:
        names = [member.registered.dimension for member in self.members]
        strengths = [member.strength for member in self.members]
        return JointLimit(
            *(dict(zip(names, strengths, strict=True)), self.scale, self.perplexity.value),
            *(dict(zip(names, self.kept, strict=True)), run_id),
        )

    def describe(self) -> str:
        """One line: strengths, cost, and what is kept."""
        together = ", ".join(
            f"{member.registered.dimension} {self.scale * member.strength:.3g} (keeps {kept:.0%} of its effect)"
            for member, kept in zip(self.members, self.kept, strict=True)
        )
        verdict = "" if self.holds else f"; asked for were {LEAST_KEPT:.0%} of each at {JOINT_CHEAP:g} times at most"
        return f"Together: {together} at {self.perplexity} times the perplexity{verdict}"


def measure_joint(model: LanguageModel, members: Sequence[JointMember]) -> JointEffect | None:
    """What ``members`` do together; ``None`` for fewer than two."""
    if len(members) < 2:
        return None
    texts = members[0].validation
    scale = next((scale for scale in SCALES if _cost(model, texts, members, scale).value <= JOINT_CHEAP), SCALES[-1])
    kept = tuple(_kept(model, members, member, scale) for member in members)
    return JointEffect(tuple(members), scale, _cost(model, members[0].test, members, scale), kept)


def joint_offsets(members: Sequence[JointMember], scale: float) -> dict[int, Tensor]:
    """What all ``members`` add to every position at ``scale`` times their strengths, by layer."""
    offsets: dict[int, Tensor] = {}
    for member in members:
        candidate = member.candidate
        offset = scale * member.strength * torch.tensor(candidate.scale * candidate.unit)
        offsets[candidate.layer] = offset + offsets.get(candidate.layer, torch.zeros_like(offset))
    return offsets


def _cost(model: LanguageModel, texts: Texts, members: Sequence[JointMember], scale: float) -> Estimate:
    return perplexity_ratio(texts.plain_prose, likelihoods(model, texts.prose, joint_offsets(members, scale)))


def _kept(model: LanguageModel, members: Sequence[JointMember], member: JointMember, scale: float) -> float:
    alone, together = shifts(model, member.test, [joint_offsets([member], 1.0), joint_offsets(members, scale)])
    return together / alone if alone > 0 else 0.0


def shifts(model: LanguageModel, texts: Texts, settings: Sequence[Mapping[int, Tensor]]) -> list[float]:
    """The effect of each of ``settings``, on what is written where that decides, else on preference."""
    if texts.writing is not None:
        return [change.fall.value for change in texts.writing.changes(model, settings)]
    return list(_preference_shifts(model, texts, settings))


def _preference_shifts(model: LanguageModel, texts: Texts, settings: Sequence[Mapping[int, Tensor]]) -> Iterator[float]:
    for offsets in settings:
        steered = likelihoods(model, texts.statements, offsets).log_probabilities
        yield preference_shift(texts.plain.log_probabilities, steered, texts.labels, texts.groups).value
