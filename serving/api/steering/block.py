"""The `steering` block: what a request says about steering, and what an answer says was applied."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field

from registry.counts import counted
from serving.api.request_body import Listed, RequestBody
from serving.steering.monitor import StopCondition
from serving.steering.plan import Bound, GenerationScope, ProbeCondition, PromptScope, TokenScope
from serving.steering.request import DimensionSteering, OnExceed, SteeringRequest, VectorSteering

MOST_STRENGTHS = 64


def _require_few(value: Any) -> Any:
    """Of a mapping every value is looked at, however many may be."""
    if isinstance(value, dict) and len(value) > MOST_STRENGTHS:
        raise ValueError(f"it names {counted(len(value), 'dimension')} and may name {MOST_STRENGTHS}")
    return value


Strengths = Annotated[dict[str, float], BeforeValidator(_require_few), Field(max_length=MOST_STRENGTHS)]
"""Dimension → standard deviations; positive is more trustworthy."""


class Apply(RequestBody):
    """Which tokens are moved: of the prompt, and of the answer."""

    prompt: PromptScope = "last"
    generation: GenerationScope = "all"

    def as_scope(self) -> TokenScope:
        return TokenScope(self.prompt, self.generation)


class SteeringCondition(RequestBody):
    """Steer a token only where the vector's registered probe finds P(trustworthy) below a threshold."""

    probe_below: float = Field(0.5, gt=0, le=1)

    def as_condition(self) -> ProbeCondition:
        return ProbeCondition(self.probe_below)


class VectorChoice(RequestBody):
    """A live vector by its registry reference, such as ``steer.smollm2.privacy/2`` or ``…@champion``."""

    ref: str = Field(max_length=300)
    op: Literal["add", "project"] = "add"
    strength: float | None = None
    """What ``add`` adds, in standard deviations."""
    target: float | None = None
    """Where ``project`` brings the projection: standard deviations from the fitting activations' mean."""
    bound: Bound | None = None
    """Whether ``project`` moves to the target from both sides (``exactly``, the default) or from one."""
    when: SteeringCondition | None = None
    """Which tokens; all of them where there is no condition."""
    layers: Listed[int] | None = Field(None, max_length=512)
    """A vector is valid at the layers where it was fitted; naming others is an error."""
    apply: Apply = Apply()

    def as_steering(self) -> VectorSteering:
        return VectorSteering(
            self.ref,
            self.op,
            self.strength,
            self.target,
            self.bound,
            None if self.when is None else self.when.as_condition(),
            None if self.layers is None else tuple(self.layers),
            self.apply.as_scope(),
        )


class ByDimension(RequestBody):
    """Through the champions: dimensions to add to, dimensions to project, and how."""

    strengths: Strengths = Field(default_factory=dict, examples=[{"toxicity": 1.5}])
    targets: Strengths = Field(default_factory=dict)
    """Dimension → where its projection is brought, in standard deviations from the fitting activations' mean."""
    bound: Bound | None = None
    """Of every target; ``exactly`` unless said otherwise."""
    when: SteeringCondition | None = None
    """Of every strength and target here."""
    apply: Apply | None = None
    """Of every strength and target here; the prompt's last token and the whole answer unless said otherwise."""

    def as_dimensions(self) -> DimensionSteering:
        condition = None if self.when is None else self.when.as_condition()
        scope = None if self.apply is None else self.apply.as_scope()
        return DimensionSteering(self.strengths, self.targets, self.bound, condition, scope)


class StopWhen(RequestBody):
    """End the answer once a monitored probe finds P(trustworthy) below a threshold for so many tokens in a row."""

    probe_below: float = Field(gt=0, le=1, examples=[0.1])
    for_: int = Field(1, alias="for", ge=1, le=1_000_000, examples=[3])

    def as_condition(self) -> StopCondition:
        return StopCondition(self.probe_below, self.for_)


class Steering(ByDimension):
    """``strengths`` and ``targets`` by dimension through the champions, ``vectors`` by reference."""

    vectors: Listed[VectorChoice] = Field(default_factory=list, max_length=64)
    on_exceed: OnExceed = "reject"
    """What happens to a strength beyond its range."""
    monitor: Listed[str] = Field(default_factory=list, max_length=64, examples=[["toxicity"]])
    """Dimensions whose registered probes read every token of the answer; each choice then has ``readings``."""
    stop_when: StopWhen | None = None
    """The readings at which the answer ends, with ``finish_reason`` ``content_filter``."""

    def as_request(self) -> SteeringRequest:
        vectors = tuple(vector.as_steering() for vector in self.vectors)
        stop = None if self.stop_when is None else self.stop_when.as_condition()
        return SteeringRequest(self.as_dimensions(), vectors, self.on_exceed, monitor=tuple(self.monitor), stop=stop)


SteeringChoice = Steering | Literal["off"] | None
"""``null`` and ``{}`` inherit the server's default, what is given overrides it by dimension, ``"off"`` clears it."""


def steering_request(choice: SteeringChoice) -> SteeringRequest:
    return SteeringRequest(inherits=choice != "off") if choice is None or choice == "off" else choice.as_request()


class TokensSteered(BaseModel):
    prompt: int
    generation: int


class AppliedCondition(BaseModel):
    """Only tokens were steered at which P(trustworthy) by the vector's probe was below the threshold."""

    probe_below: float
    probe_layer: int


class AppliedVectorInfo(BaseModel):
    """One vector that steered an answer, and where it came from."""

    dimension: str
    vector: str
    version: str
    run_id: str
    checkpoint: str
    step: int
    layers: list[int]
    op: Literal["add", "project"]
    alias: Literal["challenger"] | None = None
    """Where it stood in its champion's place."""
    strength: float | None = None
    """What was added, in standard deviations."""
    target: float | None = None
    """Where the projection was brought, in standard deviations from the fitting activations' mean."""
    requested: float | None = None
    """What was asked for, where it was clamped."""
    bound: Bound | None = None
    limit: list[float] | None = None
    """The furthest moves down and up of a projection, in standard deviations: never beyond the vector's range."""
    when: AppliedCondition | None = None
    relative_dose: float
    """Length of the longest offset, as a share of the median length of the layer's hidden states."""
    apply: dict[str, str]
    tokens_steered: TokensSteered | None = None
    """Of a projection or a condition: the tokens that it did move. The last token of an answer is never read."""


class MonitoredProbe(BaseModel):
    """One probe that read an answer, where it came from, and its readings in short."""

    dimension: str
    vector: str
    version: str
    run_id: str
    probe_layer: int
    window: int
    """So many latest tokens each reading is the mean over; 1 reads every token by itself."""
    auroc: float | None
    """Of a probe of answers: of its readings on held-out answers."""
    tokens: int
    """How many it read."""
    mean: float | None
    """Of P(trustworthy) over these tokens."""
    lowest: float | None


class SteeringInfo(BaseModel):
    applied: list[AppliedVectorInfo]
    fingerprint: str
    """Equal for answers that were steered alike; empty for one that was not steered."""
    tokens_steered: TokensSteered
    warnings: list[str] | None = None
    monitored: list[MonitoredProbe] | None = None
    stop_when: dict[str, float] | None = None
