"""Responses of the steering routes: dimensions, vectors with their lineage, and the applied steering of an answer."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import Any, Literal

from pydantic import BaseModel

from registry.calibration import Calibration
from registry.dimensions import DIMENSIONS
from registry.errors import CorruptFile
from registry.examples import Example
from registry.joint import JointLimit
from registry.records import IMPORTED_TAG, PACK_TAG, RegisteredVector
from registry.vectors import LinearProbe
from registry.verdicts import TextVerdict
from serving.api.openai.responses import TokenReadings
from serving.api.openai.usage import Usage
from serving.api.steering.block import AppliedVectorInfo, MonitoredProbe, SteeringInfo
from serving.engine.base import GenerationOutcome
from serving.steering.catalog import ServedVectors
from serving.steering.limits import Range
from serving.steering.monitor import Monitor
from serving.steering.plan import Bound
from serving.steering.resolution import SteeringResolution
from serving.steering.resolver import SteeringResolver

UNIT = "standard deviations of the fitting activations' projections on the vector"
SIGN = "positive is more trustworthy"


def dimension_info(name: str, resolver: SteeringResolver) -> dict[str, Any]:
    """One dimension as ``GET /v1/steering/dimensions`` tells it."""
    served = resolver.served
    champion, known = served.bank.champion(name), DIMENSIONS.get(name)
    allowed = Range(0.0, 0.0, (0.0, 0.0), False) if champion is None else resolver.limits.range_of(champion)
    problem = served.refused.get(name)
    probe = None if champion is None else champion.reader
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
        "challenger": served.challengers.get(name),
        "problem": None if problem is None else str(problem),
    }


def applied_steering(resolution: SteeringResolution, outcomes: Sequence[GenerationOutcome]) -> dict[str, Any]:
    """An answer's ``steering``, with how many tokens of each phase were steered in these answers."""
    counted = {intervention.vector.reference for intervention in resolution.plan.state_dependent}
    applied = []
    for vector in resolution.applied:
        reference = vector.intervention.vector.reference
        moved = {"tokens_steered": _moved(reference, outcomes)} if reference in counted else {}
        applied.append({**vector.to_dict(), **moved})
    steered = {
        "prompt": sum(outcome.steered_prompt for outcome in outcomes),
        "generation": sum(outcome.steered_generation for outcome in outcomes),
    }
    steering: dict[str, Any] = {
        "applied": applied,
        "fingerprint": resolution.plan.fingerprint,
        "tokens_steered": steered,
        **monitored(resolution.monitor, outcomes),
    }
    return {**steering, "warnings": list(resolution.warnings)} if resolution.warnings else steering


def monitored(monitor: Monitor | None, outcomes: Sequence[GenerationOutcome] = ()) -> dict[str, Any]:
    """The probes that read these answers, and the condition that ends them; nothing without a monitor."""
    if monitor is None:
        return {}
    probes = []
    for column, (vector, probe) in enumerate(zip(monitor.vectors, monitor.probes, strict=True)):
        of_probe = (of_token[column] for outcome in outcomes for of_token in outcome.readings)
        readings = [reading for reading in of_probe if reading is not None]
        probes.append(
            {
                "dimension": vector.dimension,
                "vector": vector.registered.name,
                "version": vector.registered.version,
                "run_id": vector.registered.run_id,
                "probe_layer": probe.layer,
                "window": probe.window,
                "auroc": None if probe.quality is None else round(probe.quality.auroc, 3),
                "tokens": len(readings),
                "mean": round(sum(readings) / len(readings), 6) if readings else None,
                "lowest": round(min(readings), 6) if readings else None,
            }
        )
    stop = monitor.stop
    condition = {} if stop is None else {"stop_when": {"probe_below": stop.probe_below, "for": stop.tokens}}
    return {"monitored": probes, **condition}


def _moved(reference: str, outcomes: Sequence[GenerationOutcome]) -> dict[str, int]:
    """Tokens that one vector's intervention did move."""
    counts = [outcome.moved.get(reference, (0, 0)) for outcome in outcomes]
    return {"prompt": sum(prompt for prompt, _ in counts), "generation": sum(answer for _, answer in counts)}


def vector_info(registered: RegisteredVector, served: ServedVectors) -> dict[str, Any]:
    """A registered vector with its lineage."""
    tags, live = registered.tags, served.bank.find(f"{registered.name}/{registered.version}")
    calibration, example, verdict, joint = _readable(registered)
    return {
        "name": registered.name,
        "version": registered.version,
        "dimension": registered.dimension,
        "run_id": registered.run_id,
        "model_id": registered.model_id,
        "checkpoint": registered.checkpoint_uri,
        "step": registered.checkpoint_step,
        "layer": registered.layers[0],
        "layers": list(registered.layers),
        "pooling": tags.get("pooling", ""),
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
        "example": None if example is None else asdict(example),
        "imported_from": tags.get(IMPORTED_TAG),
        "pack_digest": tags.get(PACK_TAG),
        "text_verdict": None if verdict is None else asdict(verdict),
        "joint_limit": None if joint is None else asdict(joint),
        "probe": None if live is None else probe_info(live.probe),
    }


def probe_info(probe: LinearProbe | None) -> dict[str, Any] | None:
    """The probe beside a live vector, and what its readings are worth."""
    if probe is None:
        return None
    quality = None if probe.quality is None else asdict(probe.quality)
    return {"layer": probe.layer, "window": probe.window, "works": probe.works, "quality": quality}


def _readable(
    registered: RegisteredVector,
) -> tuple[Calibration | None, Example | None, TextVerdict | None, JointLimit | None]:
    """What was measured with a version and shown of it; ``None`` for what cannot be read."""
    calibration, example, verdict, joint = None, None, None, None
    with suppress(CorruptFile):
        calibration = registered.calibration
    with suppress(CorruptFile):
        example = registered.example
    with suppress(CorruptFile):
        verdict = registered.text_verdict
    with suppress(CorruptFile):
        joint = registered.joint_limit
    return calibration, example, verdict, joint


class ComparedAnswer(BaseModel):
    index: int
    text: str
    finish_reason: Literal["stop", "length", "content_filter"]
    usage: Usage
    steering: SteeringInfo
    readings: list[TokenReadings] | None = None


class ComparisonResponse(BaseModel):
    id: str
    object: Literal["steering.comparison"]
    created: int
    model: str
    seed: int
    """The seed by which every setting was drawn."""
    data: list[ComparedAnswer]


class ValidationResponse(BaseModel):
    valid: bool
    applied: list[AppliedVectorInfo]
    fingerprint: str
    warnings: list[str]
    monitored: list[MonitoredProbe] | None = None
    stop_when: dict[str, float] | None = None
    error: dict[str, Any] | None
    """The error with which a request with this steering would be refused."""


class ProbeInfo(BaseModel):
    """The probe beside a vector."""

    layer: int
    window: int
    """So many of an answer's latest tokens each reading is the mean over; 1 reads every token by itself."""
    works: bool
    """Whether its readings are used: one of answers has to beat its controls."""
    quality: dict[str, Any] | None
    """Of one of answers: AUROC of its readings on held-out answers, beside its controls."""


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
    """The first of ``layers``."""
    layers: list[int]
    """It adds its direction at each of them, all by one strength."""
    pooling: str
    """Which tokens its probe was fitted on: the ``last`` of a text, their ``mean``, or the mean over a ``response``."""
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
    """The safe range, the recommended strength, the curve; `tested` says whether it works, by which effect."""
    example: dict[str, Any] | None
    """A prompt at which it shows, with both answers."""
    imported_from: str | None
    """The version that it was where it was made, if it came out of a pack."""
    pack_digest: str | None
    joint_limit: dict[str, Any] | None
    """How strong it may be beside the champions of other dimensions."""
    text_verdict: dict[str, Any] | None
    """Whether it improves what is written, as `-e evaluate -P by=text` measured it."""
    probe: ProbeInfo | None
    """Of a live vector."""


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
    challenger: str | None
    """The version that steers a share of the requests in the live vector's place."""
    problem: str | None
    """Why the dimension has no live vector, where it should have one."""


class DimensionList(BaseModel):
    object: Literal["list"]
    model: str
    mlflow_ui: str | None
    registry: dict[str, Any]
    data: list[DimensionInfo]


class DefaultsResponse(BaseModel):
    """Steering that requests inherit in the dimensions that they do not name."""

    strengths: dict[str, float]
    targets: dict[str, float]
    bound: Bound | None
    when: dict[str, float] | None
    apply: dict[str, str] | None
