"""Conditions of an evaluation: a model as it is, steered by a vector or its controls, instructed, fine-tuned."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from pipelines.calibrate.effects import CHEAP
from pipelines.statements.labelled import LabelledStatements
from pipelines.sweep.halves import calibration_test
from pipelines.sweep.protocol import FittingProtocol
from registry.calibration import Calibration
from registry.dimensions import Dimension
from registry.errors import InvalidInput, Mismatch
from registry.records import RegisteredVector, lineage_tags
from registry.vectors import SteeringVector
from serving.model.language_model import LanguageModel
from serving.steering.bank import ServedVector, SteeringBank
from serving.steering.plan import Add, SteeringPlan, TokenScope

Kind = Literal[
    "base", "vector", "reversed", "random", "equal cost", "silenced", "silenced random", "shuffled", "chosen", "prompt",
    "fine-tuned",
]  # fmt: skip
Scope = Literal["all", "own", "statements", "behaviour"]
"""Which tasks a condition is measured on: all, those of its dimension, its held-out statements, or its behaviour."""

_FILE = "file:"
"""Begins the source of statements that were read from a file."""
SCOPES: dict[Kind, Scope] = {
    "base": "all", "vector": "all", "fine-tuned": "all", "chosen": "own", "reversed": "own", "shuffled": "own",
    "prompt": "own", "random": "statements", "equal cost": "behaviour",
    "silenced": "behaviour", "silenced random": "behaviour",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Condition:
    """One row of the evaluation."""

    kind: Kind
    dimension: str = ""
    """What it is meant to change; empty for the base and for fine-tuned models."""
    vector: ServedVector | None = None
    strength: float = 0.0
    prefix: str = ""
    source: str = ""
    """The vector's reference, the prefix, or the fine-tuned model's path."""

    @property
    def name(self) -> str:
        return " ".join(filter(None, (self.dimension, self.kind, self.source if self.kind != "prompt" else "")))

    @property
    def scope(self) -> Scope:
        return SCOPES[self.kind]

    def offsets(self) -> dict[int, Tensor]:
        """What is added to every position's residual stream, by layer."""
        if self.vector is None:
            return {}
        offsets = self.vector.vector.offsets(self.strength)
        return {layer: torch.from_numpy(offset) for layer, offset in offsets.items()}

    def plan(self, model: LanguageModel) -> SteeringPlan | None:
        """The same for the engine: every token of prompt and answer is steered."""
        if self.vector is None:
            return None
        everywhere = Add(self.vector, self.strength, TokenScope(prompt="all"))
        return SteeringPlan(SteeringBank(model.facts, (self.vector,)), (everywhere,))


@dataclass(frozen=True)
class Subject:
    """A dimension with its champion and the strength to use it at."""

    dimension: Dimension
    champion: ServedVector
    strength: float


def strength_of(calibration: Calibration | None, reference: str) -> float:
    """The recommended strength; where none is, the one that did best or the largest cheap one, to show what it does.

    Raises ``InvalidInput`` for a vector that was never calibrated.
    """
    if calibration is None:
        raise InvalidInput(
            f"{reference} is not calibrated, so no strength is known; first run the command that its page in MLflow "
            "names"
        )
    if calibration.recommended:
        return calibration.recommended
    tested = calibration.tested.strength if calibration.tested is not None else 0.0
    if tested > 0 and calibration.allows(tested):
        return tested
    cheap = [point.strength for point in calibration.points if point.perplexity_ratio <= CHEAP and point.strength > 0]
    return max((level for level in cheap if calibration.allows(level)), default=min(1.0, calibration.high or 1.0))


def conditions_for(
    subject: Subject,
    *,
    shuffled: Sequence[ServedVector] = (),
    chosen: Sequence[ServedVector] = (),
    random: int = 5,
    seed: int = 0,
) -> Iterator[Condition]:
    """The champion and its controls: random and shuffled ones move as far as it does, measured in its own scale."""
    name, champion, strength = subject.dimension.name, subject.champion, subject.strength
    yield Condition("vector", name, champion, strength, source=champion.reference)
    yield Condition("reversed", name, champion, -strength, source=champion.reference)
    for drawn in random_vectors(champion, random, seed):
        yield Condition("random", name, drawn, strength, source=drawn.reference)
    for vector in shuffled:
        yield Condition("shuffled", name, vector, matched_strength(vector, champion, strength), source=vector.reference)
    for vector in chosen:
        yield Condition("chosen", name, vector, matched_strength(vector, champion, strength), source=vector.reference)
    prefix = f"What follows is {subject.dimension.trustworthy}:"
    yield Condition("prompt", name, prefix=prefix, source=prefix)


def matched_strength(vector: ServedVector, champion: ServedVector, strength: float) -> float:
    """The strength at which ``vector`` moves hidden states as far as ``champion`` does at ``strength``."""
    return strength * champion.vector.length / vector.vector.length


def random_vectors(champion: ServedVector, count: int, seed: int) -> Iterator[ServedVector]:
    """Directions drawn evenly from the sphere, at the champion's layers, with its scales; they are not registered."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        drawn = [rng.normal(size=champion.vector.d_model) for _ in champion.layers]
        vector = champion.vector.with_units([(each / np.linalg.norm(each)).astype(np.float32) for each in drawn])
        lineage = replace(vector.lineage, method=f"random direction {number} of seed {seed}")
        yield live(replace(vector, lineage=lineage), champion.registered, f"random-{number}")


def live(vector: SteeringVector, like: RegisteredVector, version: str) -> ServedVector:
    """A vector that is in no registry, beside the version it was made from."""
    tags = {**like.tags, **lineage_tags(vector.dimension, vector.layers, vector.lineage)}
    return ServedVector(replace(like, version=f"{like.version}-{version}", tags=tags, aliases=()), vector)


def held_out_for(
    subject: Subject, statements: Mapping[str, LabelledStatements], protocol: FittingProtocol
) -> LabelledStatements:
    """Statements that the champion was neither fitted nor calibrated on.

    Of the statements that it was made from, the half that calibration kept for its test; all of any other set. Raises
    ``Mismatch`` for a different draw of the same source, of which nobody can say what was fitted on.
    """
    mine, lineage = statements[subject.dimension.name], subject.champion.vector.lineage
    if _was_made_of(subject, mine):
        return calibration_test(mine, protocol)
    if lineage.statements_source == mine.source:
        raise Mismatch(
            f"{subject.champion.reference} was fitted on another draw of {mine.source} (digest "
            f"{lineage.statements_digest[:12]}, now {mine.digest[:12]}); give the data and limit it was calibrated with"
        )
    return mine


def overlap_note(subject: Subject, statements: Mapping[str, LabelledStatements]) -> str:
    """A line where the champion was fitted on another file, of which nobody can say what is in this one too."""
    mine, fitted = statements[subject.dimension.name], subject.champion.vector.lineage.statements_source
    if _was_made_of(subject, mine) or not all(source.startswith(_FILE) for source in (mine.source, fitted)):
        return ""
    return (
        f"{subject.champion.reference} was fitted on {fitted}: statements of {mine.source} that stand there too are "
        "not held out; leave them out of the data\n"
    )


def _was_made_of(subject: Subject, statements: LabelledStatements) -> bool:
    """Whether the champion was fitted or calibrated on them, under whichever name."""
    lineage, calibration = subject.champion.vector.lineage, subject.champion.registered.calibration
    digests = (lineage.statements_digest, *((calibration.statements_digest,) if calibration else ()))
    return any(statements.has_digest(digest, lineage.statements_source) for digest in digests)
