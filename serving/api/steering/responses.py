"""What the service tells of dimensions: their live vector, what strength means, and how far it may go."""

from dataclasses import asdict
from typing import Any, Literal

from pydantic import BaseModel

from registry.dimensions import DIMENSIONS
from registry.errors import CorruptFile
from registry.records import RegisteredVector
from serving.api.openai.responses import Usage
from serving.api.steering.block import AppliedVectorInfo, SteeringInfo
from serving.served_model import ServedModel
from serving.steering.catalog import ServedVectors
from serving.steering.limits import Range
from serving.steering.plan import Bound
from serving.steering.resolver import SteeringResolver

UNIT = "standard deviations of the fitting activations' projections on the vector"
SIGN = "positive is more trustworthy"


def dimension_info(name: str, resolver: SteeringResolver) -> dict[str, Any]:
    """One dimension as ``GET /v1/steering/dimensions`` tells it."""
    served = resolver.served
    champion, known = served.bank.champion(name), DIMENSIONS.get(name)
    allowed = Range(0.0, 0.0, (0.0, 0.0), False) if champion is None else resolver.limits.range_of(champion)
    problem = served.refused.get(name)
    probe = None if champion is None else champion.probe
    return {
        "dimension": name,
        "meaning": known.meaning if known else "",
        "trustworthy": known.trustworthy if known else "a trustworthy statement",
        "untrustworthy": known.untrustworthy if known else "an untrustworthy statement",
        "unit": UNIT,
        "sign": SIGN,
        "recommended": list(allowed.recommended),
        "hard": [allowed.low, allowed.high],
        "calibrated": allowed.calibrated,
        "probe_layer": None if probe is None else probe.layer,
        "vector": None if champion is None else vector_info(champion.registered, served),
        "problem": None if problem is None else str(problem),
    }


def default_told(served: ServedModel) -> dict[str, Any]:
    """What requests inherit, every field of it."""
    return served.defaults.to_dict()


class ComparedAnswer(BaseModel):
    index: int
    text: str
    finish_reason: Literal["stop", "length"]
    usage: Usage
    steering: SteeringInfo


class ComparisonResponse(BaseModel):
    id: str
    object: Literal["steering.comparison"]
    created: int
    model: str
    data: list[ComparedAnswer]


class ValidationResponse(BaseModel):
    valid: bool
    applied: list[AppliedVectorInfo]
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


class DefaultsResponse(BaseModel):
    """What requests inherit in dimensions of which they say nothing."""

    strengths: dict[str, float]
    targets: dict[str, float]
    bound: Bound | None
    when: dict[str, float] | None


def vector_info(registered: RegisteredVector, served: ServedVectors) -> dict[str, Any]:
    """A registered vector with its lineage."""
    tags, live = registered.tags, served.bank.find(f"{registered.name}/{registered.version}")
    try:
        calibration = registered.calibration
    except CorruptFile:
        calibration = None
    return {
        "name": registered.name,
        "version": registered.version,
        "dimension": registered.dimension,
        "run_id": registered.run_id,
        "model_id": registered.model_id,
        "checkpoint": registered.checkpoint_uri,
        "step": registered.checkpoint_step,
        "layer": registered.layer,
        "method": tags.get("method", ""),
        "n_train": int(tags.get("n_train", "0")),
        "statements_digest": tags.get("statements_digest", ""),
        "statements_source": tags.get("statements_source", ""),
        "weights_digest": tags.get("weights_digest", ""),
        "code_commit": tags.get("code_commit", ""),
        "aliases": list(registered.aliases),
        "live": live is not None,
        "experiment_id": None if live is None else live.experiment_id,
        "calibration": None if calibration is None else asdict(calibration),
    }
