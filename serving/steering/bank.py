"""The registered vectors that are live, and what a request's strengths on them add to the residual stream.

At layer ``l`` the offset of a token is ``c @ bank.matrix(l)``, where ``c`` has one coefficient a vector. A plan holds
three such rows, because the tokens of a prompt, the last of them and the generated ones can be steered differently.
What depends on a token's own hidden states stands beside them as moves: a strength that holds only where a probe fires,
and a projection that is brought to a target. ``serving.model.interventions`` carries them out.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float32

from registry.errors import InvalidInput, Mismatch
from registry.records import RegisteredVector
from registry.vectors import LinearProbe, SteeringVector
from serving.model.language_model import LanguageModel, require_layer

Phase = Literal["prompt", "last_prompt", "generation"]
"""Prompt tokens before the last, the last prompt token, generated tokens."""
PHASES: tuple[Phase, ...] = get_args(Phase)

Bound = Literal["exactly", "at_least", "at_most"]
"""Whether a projection is brought to its target from both sides, only up to it, or only down to it."""

PromptScope = Literal["none", "last", "all"]
GenerationScope = Literal["none", "all"]

LARGEST_OFFSET = 1e6
"""Longer than any hidden state, yet a sum of squares over any width stays finite in float32 and bfloat16."""


@dataclass(frozen=True)
class LiveVector:
    """One version of a registered vector, in memory. Raises ``Mismatch`` when its file contradicts its tags."""

    registered: RegisteredVector
    vector: SteeringVector
    probe: LinearProbe | None = None
    """What is registered beside it, and tells where to steer."""

    def __post_init__(self) -> None:
        self.registered.require_agrees(self.vector.dimension, self.vector.layer, self.vector.lineage)

    @property
    def reference(self) -> str:
        """Such as ``steer.smollm2.privacy/2``."""
        return f"{self.registered.name}/{self.registered.version}"

    @property
    def dimension(self) -> str:
        return self.vector.dimension

    @property
    def layer(self) -> int:
        return self.vector.layer

    def relative_dose(self, strength: float, norms: Mapping[int, float]) -> float:
        """Length of the offset at ``strength``, as a share of the typical length of the layer's hidden states."""
        return abs(strength) * self.vector.scale / norms[self.layer]

    def usable_probe(self) -> LinearProbe:
        """The probe to steer by. Raises ``InvalidInput`` without one, or for one that reads a later layer."""
        if self.probe is None:
            raise InvalidInput(f"{self.reference} has no probe beside it, so it cannot be steered where one fires")
        if self.probe.layer > self.layer:
            raise InvalidInput(
                f"the probe of {self.reference} reads layer {self.probe.layer} and the vector steers layer "
                f"{self.layer}; a probe must read the same layer or an earlier one"
            )
        return self.probe


@dataclass(frozen=True)
class SteeringBank:
    """Vectors of one model; row ``d`` of every coefficient row and matrix is ``vectors[d]``.

    Raises ``Mismatch`` for a vector of another model or width, ``InvalidInput`` for one that is there twice.
    """

    model: str
    d_model: int
    vectors: tuple[LiveVector, ...] = ()
    champions: Mapping[str, int] = field(default_factory=dict)
    """From a dimension to the row that steers it when a request names no vector."""

    def __post_init__(self) -> None:
        for one in self.vectors:
            one.vector.require_fits(model=self.model, d_model=self.d_model)
        references = [one.reference for one in self.vectors]
        doubles = sorted({reference for reference in references if references.count(reference) > 1})
        if doubles:
            raise InvalidInput(f"the bank holds {', '.join(doubles)} more than once; load each version once")
        for dimension, row in self.champions.items():
            held = self.vectors[row].dimension if 0 <= row < len(self.vectors) else "none"
            if held != dimension:
                raise Mismatch(f"the champion of {dimension} is row {row}, whose dimension is {held}")

    def require_fits(self, model: LanguageModel) -> None:
        """Raise ``Mismatch`` unless the bank was made for this model."""
        if (self.model, self.d_model) != (model.checkpoint.model, model.d_model):
            raise Mismatch(
                f"the bank is for {self.model} with d_model {self.d_model}, and the model is {model.checkpoint.model} "
                f"with {model.d_model}"
            )
        for layer in self.layers:
            require_layer(model, layer)

    @cached_property
    def layers(self) -> tuple[int, ...]:
        """The layers that the vectors steer, in order."""
        return tuple(sorted({one.layer for one in self.vectors}))

    @cached_property
    def identity(self) -> str:
        """A digest of the references in their order: registered versions never change."""
        content = "\n".join((self.model, *(one.reference for one in self.vectors)))
        return hashlib.blake2b(content.encode(), digest_size=16).hexdigest()

    @cached_property
    def _matrices(self) -> dict[int, Float32[np.ndarray, "vectors d_model"]]:
        matrices = {layer: np.zeros((len(self.vectors), self.d_model), np.float32) for layer in self.layers}
        for row, one in enumerate(self.vectors):
            matrices[one.layer][row] = one.vector.offset(1.0)
        return matrices

    def matrix(self, layer: int) -> Float32[np.ndarray, "vectors d_model"]:
        """Each vector's offset at strength 1; zero for vectors of other layers."""
        found = self._matrices.get(layer)
        return np.zeros((len(self.vectors), self.d_model), np.float32) if found is None else found


@dataclass(frozen=True)
class VectorStrength:
    """How far to move along one vector of a bank, and which tokens to move."""

    row: int
    strength: float
    """In standard deviations; positive is more trustworthy."""
    prompt: PromptScope = "last"
    generation: GenerationScope = "all"
    below: float | None = None
    """Move only tokens at which the vector's probe finds P(trustworthy) less than this; ``None`` moves all."""

    def __post_init__(self) -> None:
        _require_move("strength", self.strength, self)

    @property
    def phases(self) -> tuple[bool, bool, bool]:
        """Whether each of ``PHASES`` is steered."""
        return _phases(self)

    @property
    def reach(self) -> float:
        """The furthest that a token is moved, in standard deviations."""
        return abs(self.strength)


@dataclass(frozen=True)
class VectorTarget:
    """Where to bring the projection on one vector of a bank, and how far it may be moved for that.

    A projection is ``(h · direction - projection_mean) / scale``: 0 is where the fitting activations are on average.
    """

    row: int
    target: float
    """In standard deviations from that mean; positive is more trustworthy."""
    low: float
    high: float
    """The furthest moves down and up, in standard deviations: ``low <= 0 <= high``."""
    bound: Bound = "exactly"
    prompt: PromptScope = "last"
    generation: GenerationScope = "all"
    below: float | None = None
    """As of a ``VectorStrength``."""

    def __post_init__(self) -> None:
        _require_move("target", self.target, self)
        if self.bound not in get_args(Bound):
            raise InvalidInput(f"the bound is {self.bound!r} and must be one of {', '.join(get_args(Bound))}")
        if not -math.inf < self.low <= 0 <= self.high < math.inf:
            raise InvalidInput(f"a projection may move by {self.low} to {self.high}; that must be finite and hold 0")

    @property
    def phases(self) -> tuple[bool, bool, bool]:
        return _phases(self)

    @property
    def moves(self) -> tuple[float, float]:
        """The furthest moves down and up in view of the bound."""
        return 0.0 if self.bound == "at_least" else self.low, 0.0 if self.bound == "at_most" else self.high

    @property
    def reach(self) -> float:
        return max(map(abs, self.moves))


Move = VectorStrength | VectorTarget


def _phases(move: Move) -> tuple[bool, bool, bool]:
    return move.prompt == "all", move.prompt != "none", move.generation == "all"


def _require_move(name: str, amount: float, move: Move) -> None:
    if not math.isfinite(amount):
        raise InvalidInput(f"the {name} is {amount}; it must be a finite number of standard deviations")
    if move.prompt not in get_args(PromptScope) or move.generation not in get_args(GenerationScope):
        raise InvalidInput(
            f"tokens to steer are prompt={move.prompt!r}, generation={move.generation!r}; prompt is one of "
            f"{', '.join(get_args(PromptScope))} and generation one of {', '.join(get_args(GenerationScope))}"
        )
    if move.below is not None and not 0 < move.below <= 1:
        raise InvalidInput(f"the probe's threshold is {move.below} and must be a probability over 0 and at most 1")


@dataclass(frozen=True, eq=False)
class SteeringPlan:
    """One coefficient row a phase and the moves beside them, on the bank that a request keeps until it ends."""

    bank: SteeringBank
    prompt: Float32[np.ndarray, " vectors"]
    last_prompt: Float32[np.ndarray, " vectors"]
    generation: Float32[np.ndarray, " vectors"]
    moves: tuple[Move, ...] = ()
    """What depends on hidden states, at most one a vector, in the order of the bank."""

    @cached_property
    def fingerprint(self) -> str:
        """Equal for plans that steer alike, and empty for one that does not steer."""
        rows = np.stack([self.prompt, self.last_prompt, self.generation])
        if not rows.any() and not self.moves:
            return ""
        canonical = (rows + np.float32(0)).astype("<f4").tobytes()  # -0.0 + 0.0 is 0.0
        beside = "\n".join(map(repr, self.moves)).encode()
        return hashlib.blake2b(self.bank.identity.encode() + canonical + beside, digest_size=16).hexdigest()

    @cached_property
    def layers(self) -> tuple[int, ...]:
        """The layers at which any phase is steered, in order."""
        used = np.flatnonzero((self.prompt != 0) | (self.last_prompt != 0) | (self.generation != 0))
        rows = {*map(int, used), *(move.row for move in self.moves)}
        return tuple(sorted({self.bank.vectors[row].layer for row in rows}))

    def steers(self, phase: Phase) -> bool:
        """Whether every token of this phase is moved, whatever its hidden states."""
        return bool(getattr(self, phase).any())

    def offset(self, layer: int, phase: Phase) -> Float32[np.ndarray, " d_model"]:
        """What is added to the hidden states of every token of this phase, after block ``layer``."""
        coefficients: Float32[np.ndarray, " vectors"] = getattr(self, phase)
        offset: Float32[np.ndarray, " d_model"] = coefficients @ self.bank.matrix(layer)
        return offset


def plan(bank: SteeringBank, wanted: Sequence[Move]) -> SteeringPlan:
    """The coefficient rows of plain strengths, where those on the same vector add up, and the moves beside them.

    Raises ``InvalidInput`` for a row that the bank lacks, a move that is not the only one on its vector, a condition
    without a usable probe, and a strength whose offset is no finite number.
    """
    rows = np.zeros((len(PHASES), len(bank.vectors)), np.float64)
    moves: dict[int, Move] = {}
    for one in wanted:
        if not 0 <= one.row < len(bank.vectors):
            raise InvalidInput(f"row {one.row} does not exist: the bank holds {len(bank.vectors)} vectors")
        if isinstance(one, VectorStrength) and one.below is None:
            rows[:, one.row] += one.strength * np.array(one.phases)
        elif one.row in moves:
            raise InvalidInput(f"{bank.vectors[one.row].reference} is moved twice; give each vector one move")
        elif one.reach and any(one.phases):
            moves[one.row] = one
        if one.below is not None:
            bank.vectors[one.row].usable_probe()
    for row, live in enumerate(bank.vectors):
        beside = moves.get(row)
        furthest = float(np.abs(rows[:, row]).max())
        if furthest and beside is not None:
            raise InvalidInput(f"{live.reference} is moved twice; give each vector one move")
        furthest = max(furthest, 0.0 if beside is None else beside.reach)
        if furthest * max(1.0, live.vector.scale) > LARGEST_OFFSET:
            raise InvalidInput(f"the strength {furthest:.3g} on {live.reference} is beyond any use; give a smaller one")
    prompt, last_prompt, generation = rows.astype(np.float32)
    return SteeringPlan(bank, prompt, last_prompt, generation, tuple(moves[row] for row in sorted(moves)))


def unsteered(bank: SteeringBank) -> SteeringPlan:
    return plan(bank, ())
