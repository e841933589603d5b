"""Routes about steering itself: dimensions, vectors and their lineage, limits, defaults, comparisons."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, Response

from registry.dimensions import DIMENSIONS
from registry.errors import TrustTraceError
from registry.gguf import vector_to_gguf
from registry.records import parse_reference
from registry.serialization import vector_to_bytes
from serving.api.dependencies import Loaded, Record, Served
from serving.api.errors import as_reply, documented, require_model
from serving.api.openai.completions import resolver
from serving.api.steering.block import steering_request
from serving.api.steering.compare import compare
from serving.api.steering.requests import CompareRequest, DefaultSteering, ValidateRequest, VectorReference
from serving.api.steering.responses import (
    ComparisonResponse,
    DefaultsResponse,
    DimensionList,
    Unloaded,
    ValidationResponse,
    VectorInfo,
    VectorList,
    default_told,
    dimension_info,
    vector_info,
)
from serving.served_model import LoadedModel, ServedModel
from serving.steering.errors import SteeringError
from serving.steering.request import DimensionSteering, SteeringRequest

router = APIRouter(tags=["steering"])

Name = Annotated[str, Query(max_length=100)]
VERSION = "/v1/steering/vectors/{name}/versions/{version}"
REGISTRY = documented(404, 409, 503)


@router.get("/v1/steering/dimensions", responses={200: {"model": DimensionList}, **documented(503)})
def dimensions(served: Served, running: Loaded) -> JSONResponse:
    """Every dimension with its live vector, its ranges, and what strength means."""
    resolve, live, health = resolver(served, running), running.catalog.served, running.catalog.health
    own = [name for name in (*live.bank.champions, *live.refused) if name not in DIMENSIONS]
    return JSONResponse(
        {
            "object": "list",
            "model": running.name,
            "mlflow_ui": served.settings.mlflow_ui,
            "registry": {
                "answers": health.answers,
                "problem": health.problem or None,
                "last_answer": health.last_answer,
            },
            "data": [dimension_info(name, resolve) for name in (*DIMENSIONS, *dict.fromkeys(own))],
        }
    )


@router.get("/v1/steering/vectors", responses={200: {"model": VectorList}, **documented(503)})
def vectors(running: Loaded, dimension: Name | None = None) -> JSONResponse:
    """Every registered version for the model that is served, the newest first in each dimension."""
    found = running.catalog.store().list(running.name, dimension)
    data = [vector_info(one, running.catalog.served) for one in found]
    return JSONResponse({"object": "list", "model": running.name, "data": data})


@router.get(VERSION, responses={200: {"model": VectorInfo}, **REGISTRY})
def vector(name: str, version: str, running: Loaded) -> JSONResponse:
    """One version with its lineage."""
    registered = running.catalog.store().resolve(f"{name}/{version}")
    return JSONResponse(vector_info(registered, running.catalog.served))


@router.get(
    f"{VERSION}/export",
    responses={
        200: {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}},
        **REGISTRY,
    },
    response_class=Response,
)
def export(
    name: str,
    version: str,
    running: Loaded,
    format: Annotated[str, Query(pattern="^(safetensors|gguf)$")] = "safetensors",
    strength: Annotated[float, Query(gt=0, lt=1e6, allow_inf_nan=False)] = 1.0,
) -> Response:
    """The vector as a file: ours, or a control vector for llama.cpp at the given strength."""
    store = running.catalog.store()
    found = store.load(store.resolve(f"{name}/{version}"))
    if format == "gguf":
        architecture = str(running.model.network.config.model_type)
        hint = architecture if found.lineage.model == running.name else None
        content = vector_to_gguf(found, strength, model_hint=hint)
    else:
        content = vector_to_bytes(found)
    disposition = f'attachment; filename="{name}-{version}.{format}"'
    return Response(content, media_type="application/octet-stream", headers={"Content-Disposition": disposition})


@router.post("/v1/steering/vectors", responses={200: {"model": VectorInfo}, **REGISTRY})
def load(body: VectorReference, running: Loaded) -> JSONResponse:
    """Make a registered version live beside the champions (admin key)."""
    parse_reference(body.ref)
    found = running.catalog.load(body.ref)
    return JSONResponse(vector_info(found.registered, running.catalog.served))


@router.delete("/v1/steering/vectors", responses={200: {"model": Unloaded}, **REGISTRY})
def unload(body: VectorReference, running: Loaded) -> JSONResponse:
    """Take a loaded version back; requests that run keep it (admin key)."""
    name, version = parse_reference(body.ref)
    running.catalog.unload(f"{name}/{version}")
    return JSONResponse({"ref": body.ref, "unloaded": True})


@router.post("/v1/steering/validate", responses={200: {"model": ValidationResponse}, **documented(404, 503)})
def validate(body: ValidateRequest, served: Served, running: Loaded) -> JSONResponse:
    """What a request with this steering would do, or why it would be refused; nothing is generated."""
    require_model(body.model, running.name)
    try:
        resolved = resolver(served, running).resolve(steering_request(body.steering))
    except TrustTraceError as error:
        _, told, _ = as_reply(error)
        return JSONResponse({"valid": False, "applied": [], "fingerprint": "", "warnings": [], **told})
    return JSONResponse(
        {
            "valid": True,
            "applied": [vector.to_dict() for vector in resolved.applied],
            "fingerprint": resolved.plan.fingerprint,
            "warnings": list(resolved.warnings),
            "error": None,
        }
    )


@router.get("/v1/steering/default", responses={200: {"model": DefaultsResponse}, **documented()})
def default(served: Served) -> JSONResponse:
    """What requests are steered by in dimensions of which they say nothing."""
    return JSONResponse(default_told(served))


@router.put("/v1/steering/default", responses={200: {"model": DefaultsResponse}, **documented(404, 409, 422, 503)})
def set_default(body: DefaultSteering, served: Served, running: Loaded) -> JSONResponse:
    """Replace it, unless the live vectors refuse it (admin key)."""
    default = body.as_dimensions()
    _require_appliable(default, served, running)
    served.defaults = default
    return JSONResponse(default_told(served))


def _require_appliable(default: DimensionSteering, served: ServedModel, running: LoadedModel) -> None:
    try:
        resolver(served, running).resolve(SteeringRequest(default, inherits=False), "")
    except SteeringError as error:
        error.param = (error.param or "").removeprefix(".") or None
        raise


@router.delete("/v1/steering/default", responses={200: {"model": DefaultsResponse}, **documented()})
def clear_default(served: Served) -> JSONResponse:
    """Go back to no steering by default (admin key)."""
    served.defaults = DimensionSteering()
    return JSONResponse(default_told(served))


@router.post(
    "/v1/steering/compare",
    responses={200: {"model": ComparisonResponse}, **documented(404, 409, 413, 422, 429, 503, 504)},
)
async def comparison(body: CompareRequest, request: Request, served: Served, record: Record) -> JSONResponse:
    """One prompt under several settings, unsteered among them, in one batch."""
    found = await run_in_threadpool(compare, served, body, record)
    return JSONResponse(await found.told(request, served.settings.timeout))
