"""The registered vectors that are live, and what a request's strengths on them add to the residual stream.

At layer ``l`` the offset of a token is ``c @ bank.matrix(l)``, where ``c`` has one coefficient a vector. A plan holds
three such rows, because the tokens of a prompt, the last of them and the generated ones can be steered differently.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from registry.errors import InvalidInput, Mismatch
from registry.registered import RegisteredVector
from registry.vectors import SteeringVector
from serving.model.language_model import LanguageModel, require_layer
from serving.model.residual_stream import recording

Phase = Literal["prompt", "last_prompt", "generation"]
"""Prompt tokens before the last, the last prompt token, generated tokens."""
PHASES: tuple[Phase, ...] = get_args(Phase)

PromptScope = Literal["none", "last", "all"]
GenerationScope = Literal["none", "all"]

LARGEST_OFFSET = 1e6
"""Longer than any hidden state, yet a sum of squares over any width stays finite in float32 and bfloat16."""

PLAIN_SENTENCES = (
    "The library opens at nine in the morning and closes at six, except on Sundays, when it stays shut all day.",
    "Water boils at a lower temperature in the mountains, because the air presses less on its surface there.",
    "She packed two shirts, a raincoat and a book, and caught the early train to visit her brother by the sea.",
    "Most of the houses on our street were built a century ago, of brick, with small gardens behind them.",
    "To make the soup, chop an onion, fry it gently in butter, then add the carrots, the stock and some salt.",
)


@dataclass(frozen=True)
class LiveVector:
    """One version of a registered vector, in memory. Raises ``Mismatch`` when its file contradicts its tags."""

    registered: RegisteredVector
    vector: SteeringVector

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

    def __post_init__(self) -> None:
        if not math.isfinite(self.strength):
            raise InvalidInput(f"the strength is {self.strength}; it must be a finite number of standard deviations")
        if self.prompt not in get_args(PromptScope) or self.generation not in get_args(GenerationScope):
            raise InvalidInput(
                f"tokens to steer are prompt={self.prompt!r}, generation={self.generation!r}; prompt is one of "
                f"{', '.join(get_args(PromptScope))} and generation one of {', '.join(get_args(GenerationScope))}"
            )

    @property
    def phases(self) -> tuple[bool, bool, bool]:
        """Whether each of ``PHASES`` is steered."""
        return self.prompt == "all", self.prompt != "none", self.generation == "all"


@dataclass(frozen=True, eq=False)
class SteeringPlan:
    """One coefficient row a phase, on the bank that a request keeps until it ends."""

    bank: SteeringBank
    prompt: Float32[np.ndarray, " vectors"]
    last_prompt: Float32[np.ndarray, " vectors"]
    generation: Float32[np.ndarray, " vectors"]

    @cached_property
    def fingerprint(self) -> str:
        """Equal for plans that steer alike, and empty for one that does not steer."""
        rows = np.stack([self.prompt, self.last_prompt, self.generation])
        if not rows.any():
            return ""
        canonical = (rows + np.float32(0)).astype("<f4").tobytes()  # -0.0 + 0.0 is 0.0
        return hashlib.blake2b(self.bank.identity.encode() + canonical, digest_size=16).hexdigest()

    @cached_property
    def layers(self) -> tuple[int, ...]:
        """The layers at which any phase is steered, in order."""
        used = np.flatnonzero((self.prompt != 0) | (self.last_prompt != 0) | (self.generation != 0))
        return tuple(sorted({self.bank.vectors[row].layer for row in used}))

    def steers(self, phase: Phase) -> bool:
        return bool(getattr(self, phase).any())

    def offset(self, layer: int, phase: Phase) -> Float32[np.ndarray, " d_model"]:
        """What is added to the hidden states of a token of this phase, after block ``layer``."""
        coefficients: Float32[np.ndarray, " vectors"] = getattr(self, phase)
        offset: Float32[np.ndarray, " d_model"] = coefficients @ self.bank.matrix(layer)
        return offset


def plan(bank: SteeringBank, strengths: Sequence[VectorStrength]) -> SteeringPlan:
    """The coefficient rows of ``strengths``; those on the same vector add up.

    Raises ``InvalidInput`` for a row that the bank lacks and for a strength whose offset is no finite number.
    """
    rows = np.zeros((len(PHASES), len(bank.vectors)), np.float64)
    for one in strengths:
        if not 0 <= one.row < len(bank.vectors):
            raise InvalidInput(f"row {one.row} does not exist: the bank holds {len(bank.vectors)} vectors")
        rows[:, one.row] += one.strength * np.array(one.phases)
    for row, live in enumerate(bank.vectors):
        furthest = float(np.abs(rows[:, row]).max())
        if furthest * max(1.0, live.vector.scale) > LARGEST_OFFSET:
            raise InvalidInput(f"the strength {furthest:.3g} on {live.reference} is beyond any use; give a smaller one")
    prompt, last_prompt, generation = rows.astype(np.float32)
    return SteeringPlan(bank, prompt, last_prompt, generation)


def unsteered(bank: SteeringBank) -> SteeringPlan:
    return plan(bank, ())


def relative_dose(steering: SteeringPlan, norms: Mapping[int, float]) -> dict[int, float]:
    """At each steered layer the longest offset of any phase, as a share of the layer's ``residual_norms``.

    Beyond about 1 a model says little that makes sense.
    """
    return {
        layer: max(float(np.linalg.norm(steering.offset(layer, phase))) for phase in PHASES) / norms[layer]
        for layer in steering.layers
    }


def residual_norms(model: LanguageModel) -> dict[int, float]:
    """The median length of hidden states at every layer, over a few plain sentences.

    The first token of each is left out: many models park attention there, with hidden states of enormous length.
    """
    lengths: dict[int, list[Tensor]] = {layer: [] for layer in range(model.n_layers)}

    def read(layer: int, states: Tensor) -> None:
        lengths[layer].append(states[0, 1:].float().norm(dim=-1).cpu())

    with torch.inference_mode(), recording(model.network, range(model.n_layers), read):
        for text in PLAIN_SENTENCES:
            tokens = model.tokenizer(text, return_tensors="pt")["input_ids"]
            model.trunk(input_ids=tokens.to(model.device), use_cache=False)
    return {layer: float(torch.cat(found).median()) for layer, found in lengths.items()}
