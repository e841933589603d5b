"""What an answer says, for the OpenAPI document. Routes build the same as plain dictionaries, which is faster."""

from typing import Any, Literal

from pydantic import BaseModel

from serving.steering.bank import Bound


class TokensSteered(BaseModel):
    prompt: int
    generation: int


class AppliedCondition(BaseModel):
    """Only tokens were steered at which P(trustworthy) by the vector's probe was below the threshold."""

    probe_below: float
    probe_layer: int


class AppliedVector(BaseModel):
    """One vector that steered an answer, and where it came from."""

    dimension: str
    vector: str
    version: str
    run_id: str
    checkpoint: str
    step: int
    layers: list[int]
    op: Literal["add", "project"]
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


class AppliedSteering(BaseModel):
    applied: list[AppliedVector]
    fingerprint: str
    """Equal for answers that were steered alike; empty for one that was not steered."""
    tokens_steered: TokensSteered
    warnings: list[str] | None = None


class Usage(BaseModel):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Choice(BaseModel):
    index: int
    finish_reason: Literal["stop", "length"]
    text: str | None = None
    message: dict[str, Any] | None = None
    logprobs: dict[str, Any] | None = None


class Answer(BaseModel):
    """OpenAI's object, and ``steering``. Streamed, it comes as server-sent events."""

    id: str
    object: Literal["chat.completion", "text_completion"]
    created: int
    model: str
    choices: list[Choice]
    usage: Usage
    steering: AppliedSteering


class Compared(BaseModel):
    index: int
    text: str
    finish_reason: Literal["stop", "length"]
    usage: Usage
    steering: AppliedSteering


class Comparison(BaseModel):
    id: str
    object: Literal["steering.comparison"]
    created: int
    model: str
    data: list[Compared]


class Validation(BaseModel):
    valid: bool
    applied: list[AppliedVector]
    fingerprint: str
    warnings: list[str]
    error: dict[str, Any] | None
    """What a request with this steering would be refused with."""


class VectorInfo(BaseModel):
    """A registered vector with its lineage."""

    name: str
    version: str
    dimension: str
    run_id: str
    model_id: str
    checkpoint: str
    step: int
    layer: int
    method: str
    n_train: int
    statements_digest: str
    statements_source: str
    weights_digest: str
    code_commit: str
    aliases: list[str]
    live: bool
    experiment_id: str | None
    calibration: dict[str, Any] | None


class VectorList(BaseModel):
    object: Literal["list"]
    model: str
    data: list[VectorInfo]


class Unloaded(BaseModel):
    ref: str
    unloaded: Literal[True]


class DimensionInfo(BaseModel):
    dimension: str
    meaning: str
    trustworthy: str
    untrustworthy: str
    unit: str
    sign: str
    recommended: list[float]
    hard: list[float]
    calibrated: bool
    probe_layer: int | None
    """Where the probe reads that a condition asks; a vector without one cannot be steered conditionally."""
    vector: VectorInfo | None
    problem: str | None
    """Why the dimension has no live vector, where it should have one."""


class DimensionList(BaseModel):
    object: Literal["list"]
    model: str
    mlflow_ui: str | None
    registry: dict[str, Any]
    data: list[DimensionInfo]


class ModelInfo(BaseModel):
    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    chat: bool
    """Whether the model has a chat template; without one, /v1/completions answers."""
    context_window: int
    checkpoint: dict[str, Any]
    steering: dict[str, Any]


class ModelList(BaseModel):
    object: Literal["list"]
    data: list[ModelInfo]


class TokenScore(BaseModel):
    text: str
    scores: dict[str, float]


class TextScore(BaseModel):
    index: int
    scores: dict[str, float]
    """P(trustworthy) at the last token, by dimension."""
    n_tokens: int
    tokens: list[TokenScore] | None = None


class ProbeReply(BaseModel):
    object: Literal["list"]
    model: str
    data: list[TextScore]
    probes: dict[str, VectorInfo]


class Defaults(BaseModel):
    """What requests inherit in dimensions of which they say nothing."""

    strengths: dict[str, float]
    targets: dict[str, float]
    bound: Bound | None
    when: dict[str, float] | None


class Health(BaseModel):
    status: Literal["alive", "ready", "loading", "waiting for the registry", "draining", "failed"]
    model: str | None = None
    problem: str | None = None
    registry: dict[str, Any] | None = None
    dimensions: list[str] | None = None
