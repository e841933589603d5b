"""Steering plan: the interventions of one request on a bank, ``Add`` or ``Project``, and their coefficient rows.

A plan holds one coefficient row per phase, because the tokens of a prompt, the last of them and the generated ones can
be steered differently. Interventions that depend on a token's own hidden states stand beside the rows: a strength that
holds only where a probe fires, and a projection that is brought to a target. ``serving.model.interventions`` carries
them out.
"""

import hashlib
import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float32

from registry.errors import InvalidInput
from serving.steering.bank import ServedVector, SteeringBank

Phase = Literal["prompt", "last_prompt", "generation"]
"""Prompt tokens before the last, the last prompt token, generated tokens."""
PHASES: tuple[Phase, ...] = get_args(Phase)


def phase_at(position: int, prompt_length: int) -> Phase:
    """The phase of the token at ``position`` in prompt and answer."""
    last = prompt_length - 1
    return "prompt" if position < last else "last_prompt" if position == last else "generation"


Operation = Literal["add", "project", "when", "monitor"]
"""Add an offset, bring a projection to a target, do either only where the vector's probe fires, and read an answer by
probes."""

Bound = Literal["exactly", "at_least", "at_most"]
"""Whether a projection is brought to its target from both sides, only up to it, or only down to it."""

PromptScope = Literal["none", "last", "all"]
GenerationScope = Literal["none", "all"]

LARGEST_OFFSET = 1e6
"""Longer than any hidden state, yet a sum of squares over any width stays finite in float32 and bfloat16."""


@dataclass(frozen=True)
class TokenScope:
    """Which tokens are steered: of the prompt, and of the answer."""

    prompt: PromptScope = "last"
    generation: GenerationScope = "all"

    def __post_init__(self) -> None:
        for name, known in (("prompt", PromptScope), ("generation", GenerationScope)):
            value = getattr(self, name)
            if value not in get_args(known):
                raise InvalidInput(f"`{name}` is {value!r} and must be one of {', '.join(get_args(known))}")

    def includes(self, phase: Phase) -> bool:
        if phase == "generation":
            return self.generation == "all"
        return self.prompt == "all" or (self.prompt == "last" and phase == "last_prompt")


@dataclass(frozen=True)
class ProbeCondition:
    """Steer only tokens at which the vector's probe finds P(trustworthy) below a threshold."""

    probe_below: float

    def __post_init__(self) -> None:
        if not 0 < self.probe_below <= 1:
            raise InvalidInput(f"`probe_below` is {self.probe_below} and must be a probability over 0 and at most 1")

    @property
    def logit(self) -> float:
        """The probe fires below this logit."""
        return math.inf if self.probe_below == 1 else math.log(self.probe_below / (1 - self.probe_below))


@dataclass(frozen=True)
class Add:
    """A strength added along one vector: one value from a request's JSON to the coefficient row.

    Raises ``InvalidInput`` for a strength that is no finite number, and for a condition without a usable probe.
    """

    vector: ServedVector
    strength: float
    """In standard deviations; positive is more trustworthy."""
    scope: TokenScope = TokenScope()
    condition: ProbeCondition | None = None

    def __post_init__(self) -> None:
        _require_valid("strength", self.strength, self)

    @property
    def amount(self) -> float:
        return self.strength

    @property
    def max_shift(self) -> float:
        """The furthest that a token is moved, in standard deviations."""
        return abs(self.strength)

    def with_amount(self, strength: float) -> "Add":
        return replace(self, strength=strength)

    def shrunk(self, share: float) -> "Add":
        """The same with no more than ``share`` of its largest shift."""
        return replace(self, strength=self.strength * share)


@dataclass(frozen=True)
class Project:
    """A projection on one vector that is brought to a target, and how far a token may be moved for that.

    At each layer of a vector of several the projection on the direction there is.

    A projection is ``(h · direction - projection_mean) / scale``: 0 is where the fitting activations are on average.
    Raises ``InvalidInput`` as ``Add`` does, and for shifts that do not include 0.
    """

    vector: ServedVector
    target: float
    """In standard deviations from that mean; positive is more trustworthy."""
    bound: Bound = "exactly"
    low: float = -math.inf
    high: float = math.inf
    """The furthest shifts down and up, in standard deviations: ``low <= 0 <= high``. A plan needs them finite."""
    scope: TokenScope = TokenScope()
    condition: ProbeCondition | None = None

    def __post_init__(self) -> None:
        _require_valid("target", self.target, self)
        if self.bound not in get_args(Bound):
            raise InvalidInput(f"`bound` is {self.bound!r} and must be one of {', '.join(get_args(Bound))}")
        if not self.low <= 0 <= self.high:
            raise InvalidInput(f"a projection may shift by {self.low} to {self.high}; that range must include 0")

    @property
    def amount(self) -> float:
        return self.target

    @property
    def shifts(self) -> tuple[float, float]:
        """The furthest shifts down and up in view of the bound."""
        return 0.0 if self.bound == "at_least" else self.low, 0.0 if self.bound == "at_most" else self.high

    @property
    def max_shift(self) -> float:
        return max(map(abs, self.shifts))

    def with_amount(self, target: float) -> "Project":
        return replace(self, target=target)

    def shrunk(self, share: float) -> "Project":
        return replace(self, low=self.low * share, high=self.high * share)


Intervention = Add | Project


def _require_valid(name: str, amount: float, intervention: Intervention) -> None:
    if not math.isfinite(amount):
        raise InvalidInput(f"`{name}` is {amount}; it must be a finite number of standard deviations")
    if intervention.condition is not None:
        intervention.vector.require_probe()


@dataclass(frozen=True, eq=False)
class SteeringPlan:
    """The interventions of one request, on the bank that it keeps until it ends.

    Raises ``InvalidInput`` for a vector that the bank lacks, one that is steered twice, and an offset beyond any use.
    """

    bank: SteeringBank
    interventions: tuple[Intervention, ...] = ()

    def __post_init__(self) -> None:
        references = [intervention.vector.reference for intervention in self.interventions]
        for reference, intervention in zip(references, self.interventions, strict=True):
            self.bank.row(reference)
            if references.count(reference) > 1:
                raise InvalidInput(f"{reference} is steered twice; steer each vector once")
            if not intervention.max_shift * max(1.0, intervention.vector.vector.length) <= LARGEST_OFFSET:
                raise InvalidInput(
                    f"a shift of {intervention.max_shift:.3g} on {reference} is beyond any use; give a smaller one"
                )

    @cached_property
    def coefficients(self) -> Float32[np.ndarray, "phases vectors"]:
        """One row per phase: what is added to every token of the phase, whatever its hidden states."""
        rows = np.zeros((len(PHASES), len(self.bank.vectors)), np.float32)
        for intervention in self.interventions:
            if is_unconditional(intervention):
                row = self.bank.row(intervention.vector.reference)
                rows[:, row] = [intervention.amount * intervention.scope.includes(phase) for phase in PHASES]
        return rows

    @cached_property
    def state_dependent(self) -> tuple[Intervention, ...]:
        """The interventions that depend on hidden states and move any token, in the order of the bank."""
        acting = [
            intervention
            for intervention in self.interventions
            if not is_unconditional(intervention)
            and intervention.max_shift
            and any(map(intervention.scope.includes, PHASES))
        ]
        return tuple(sorted(acting, key=lambda intervention: self.bank.row(intervention.vector.reference)))

    @cached_property
    def fingerprint(self) -> str:
        """Equal for plans that steer alike, and empty for one that does not steer."""
        if not self.coefficients.any() and not self.state_dependent:
            return ""
        canonical = (self.coefficients + np.float32(0)).astype("<f4").tobytes()  # -0.0 + 0.0 is 0.0
        beside = "\n".join(map(_identity, self.state_dependent)).encode()
        return hashlib.blake2b(self.bank.identity.encode() + canonical + beside, digest_size=16).hexdigest()

    @cached_property
    def rows(self) -> tuple[int, ...]:
        """The rows of the bank that have any coefficient."""
        return tuple(np.flatnonzero(self.coefficients.any(axis=0)).tolist())

    @cached_property
    def layers(self) -> tuple[int, ...]:
        """The layers at which a coefficient steers any phase, in order."""
        return tuple(sorted({layer for row in self.rows for layer in self.bank.vectors[row].layers}))

    @cached_property
    def operations(self) -> frozenset[Operation]:
        """What an engine must be able to do for this plan."""
        operations: set[Operation] = {"add"} if self.rows else set()
        for intervention in self.state_dependent:
            operations.add("add" if isinstance(intervention, Add) else "project")
            if intervention.condition is not None:
                operations.add("when")
        return frozenset(operations)

    def steers(self, phase: Phase) -> bool:
        """Whether every token of this phase is moved, whatever its hidden states."""
        return bool(self.coefficients[PHASES.index(phase)].any())

    def offset(self, layer: int, phase: Phase) -> Float32[np.ndarray, " d_model"]:
        """What is added to the hidden states of every token of this phase, after block ``layer``."""
        offset: Float32[np.ndarray, " d_model"] = self.coefficients[PHASES.index(phase)] @ self.bank.matrix(layer)
        return offset


def is_unconditional(intervention: Intervention) -> bool:
    """Whether it is the same for every token in its scope."""
    return isinstance(intervention, Add) and intervention.condition is None


def _identity(intervention: Intervention) -> str:
    condition = None if intervention.condition is None else intervention.condition.probe_below
    scope = intervention.scope.prompt, intervention.scope.generation
    shared = (intervention.vector.reference, intervention.amount, *scope, condition)
    return repr(shared if isinstance(intervention, Add) else (*shared, intervention.bound, *intervention.shifts))
