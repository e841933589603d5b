"""Steering routes: dimensions, vectors and their lineage, limits, defaults, comparisons."""

from typing import Annotated, Literal
from urllib.parse import quote

from fastapi import APIRouter, Depends, Query
from fastapi.responses import JSONResponse, Response

from registry.dimensions import DIMENSIONS
from registry.errors import TrustTraceError
from registry.gguf import vector_to_gguf
from registry.records import RegisteredVector, parse_reference
from registry.serialization import vector_to_bytes
from registry.store import VectorStore
from serving.api.dependencies import Loaded, Served, SteeredContext, require_known_query
from serving.api.error_documents import documented
from serving.api.errors import ApiError, as_reply, at_field, require_model
from serving.api.openai.completions import steering_of
from serving.api.steering.compare import compare
from serving.api.steering.requests import CompareRequest, DefaultSteering, ValidateRequest, VectorReference
from serving.api.steering.resolution import resolve_steering
from serving.api.steering.responses import (
    ComparisonResponse,
    DefaultsResponse,
    DimensionList,
    Unloaded,
    ValidationResponse,
    VectorInfo,
    VectorList,
    dimension_info,
    monitored,
    vector_info,
)
from serving.api.steering.shorthand import split_alias
from serving.served_model import LoadedModel, ServedModel
from serving.steering.errors import SteeringError
from serving.steering.request import DimensionSteering, SteeringRequest

router = APIRouter(tags=["steering"], dependencies=[Depends(require_known_query)])

Name = Annotated[str, Query(max_length=100)]
VERSION = "/v1/steering/vectors/{name}/versions/{version}"
REGISTRY = documented(404, 409, 503)


@router.get(
    "/v1/steering/dimensions",
    responses={200: {"model": DimensionList}, **documented(503)},
    summary="List the dimensions",
)
def dimensions(served: Served, loaded: Loaded) -> JSONResponse:
    """Every dimension with its live vector, its ranges, and the meaning of strength."""
    resolver, health = served.steering_resolver(loaded), loaded.catalog.health
    vectors = resolver.served
    own = [name for name in (*vectors.bank.champions, *vectors.refused) if name not in DIMENSIONS]
    return JSONResponse(
        {
            "object": "list",
            "model": loaded.name,
            "mlflow_ui": served.settings.mlflow_ui,
            "registry": {
                "answers": health.answers,
                "problem": health.problem or None,
                "last_answer": health.last_answer,
            },
            "data": [dimension_info(name, resolver) for name in (*DIMENSIONS, *dict.fromkeys(own))],
        }
    )


@router.get(
    "/v1/steering/vectors",
    responses={200: {"model": VectorList}, **documented(503)},
    summary="List the registered vectors",
)
def vectors(loaded: Loaded, dimension: Name | None = None) -> JSONResponse:
    """Every registered version for the model that is served, the newest first in each dimension."""
    versions = loaded.catalog.store().list(loaded.name, dimension)
    data = [vector_info(version, loaded.catalog.served) for version in versions]
    return JSONResponse({"object": "list", "model": loaded.name, "data": data})


def _registered(store: VectorStore, name: str, version: str) -> RegisteredVector:
    """The version that a path names. Raises what the store does, naming the part of the path at fault."""
    with at_field("name"):
        parse_reference(f"{name}/1")
    if not version.isdecimal():
        raise ApiError(
            f"`version` is {version!r} and has to be a number; GET /v1/steering/vectors lists them", param="version"
        )
    with at_field("version"):
        return store.resolve(f"{name}/{version}")


@router.get(VERSION, responses={200: {"model": VectorInfo}, **REGISTRY}, summary="Describe a registered vector")
def vector(name: str, version: str, loaded: Loaded) -> JSONResponse:
    """One version with its lineage."""
    registered = _registered(loaded.catalog.store(), name, version)
    return JSONResponse(vector_info(registered, loaded.catalog.served))


@router.get(
    f"{VERSION}/export",
    responses={
        200: {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}},
        **REGISTRY,
    },
    response_class=Response,
    summary="Download a vector",
)
def export(
    name: str,
    version: str,
    loaded: Loaded,
    format: Literal["safetensors", "gguf"] = "safetensors",
    strength: Annotated[float, Query(gt=0, lt=1e6, allow_inf_nan=False)] = 1.0,
) -> Response:
    """The vector as a file: ours, or a control vector for llama.cpp at the given strength."""
    if format != "gguf" and strength != 1:
        raise ApiError(
            f"`strength` is {strength:g}, which a file of {format} cannot hold: leave it out, or send `format` gguf",
            param="strength",
        )
    store = loaded.catalog.store()
    steering_vector = store.load(_registered(store, name, version))
    if format == "gguf":
        architecture = str(loaded.model.network.config.model_type)
        hint = architecture if steering_vector.lineage.model == loaded.name else None
        content = vector_to_gguf(steering_vector, strength, model_hint=hint)
    else:
        content = vector_to_bytes(steering_vector)
    disposition = _attachment(f"{name}-{version}.{format}")
    return Response(content, media_type="application/octet-stream", headers={"Content-Disposition": disposition})


def _attachment(name: str) -> str:
    """The header for a file's name, which may be written in any script (RFC 5987)."""
    plain = name.encode("ascii", "replace").decode().replace("?", "_").replace('"', "_")
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


@router.post("/v1/steering/vectors", responses={200: {"model": VectorInfo}, **REGISTRY}, summary="Load a vector")
def load(body: VectorReference, loaded: Loaded) -> JSONResponse:
    """Make a registered version live beside the champions (admin key)."""
    with at_field("ref"):
        parse_reference(body.ref)
        live = loaded.catalog.load(body.ref)
    return JSONResponse(vector_info(live.registered, loaded.catalog.served))


@router.delete("/v1/steering/vectors", responses={200: {"model": Unloaded}, **REGISTRY}, summary="Unload a vector")
def unload(body: VectorReference, loaded: Loaded) -> JSONResponse:
    """Take a loaded version back; requests that run keep it (admin key)."""
    with at_field("ref"):
        name, version = parse_reference(body.ref)
        loaded.catalog.unload(f"{name}/{version}")
    return JSONResponse({"ref": body.ref, "unloaded": True})


@router.post(
    "/v1/steering/validate",
    responses={200: {"model": ValidationResponse}, **documented(404, 503)},
    summary="Try a setting",
)
def validate(body: ValidateRequest, context: SteeredContext, loaded: Loaded) -> JSONResponse:
    """The effect of a request with this steering, header or alias, or why it would be refused; nothing is generated."""
    model, alias = split_alias(body.model)
    require_model(model, loaded.name)
    try:
        request, source = steering_of(body.steering, context.x_steering, alias)
        resolution = resolve_steering(context.served, loaded, request, source)
    except TrustTraceError as error:
        _, reply, _ = as_reply(error)
        return JSONResponse({"valid": False, "applied": [], "fingerprint": "", "warnings": [], **reply})
    return JSONResponse(
        {
            "valid": True,
            "applied": [vector.to_dict() for vector in resolution.applied],
            "fingerprint": resolution.plan.fingerprint,
            "warnings": list(resolution.warnings),
            **monitored(resolution.monitor),
            "error": None,
        }
    )


@router.get(
    "/v1/steering/default", responses={200: {"model": DefaultsResponse}, **documented()}, summary="Show the default"
)
def default(served: Served) -> JSONResponse:
    """Steering that requests inherit in the dimensions that they do not name."""
    return JSONResponse(served.defaults.to_dict())


@router.put(
    "/v1/steering/default",
    responses={200: {"model": DefaultsResponse}, **documented(404, 409, 422, 503)},
    summary="Set the default",
)
def set_default(body: DefaultSteering, served: Served, loaded: Loaded) -> JSONResponse:
    """Replace it, unless the live vectors refuse it (admin key)."""
    default = body.as_dimensions()
    _require_appliable(default, served, loaded)
    served.defaults = default
    return JSONResponse(served.defaults.to_dict())


def _require_appliable(default: DimensionSteering, served: ServedModel, loaded: LoadedModel) -> None:
    try:
        served.steering_resolver(loaded).resolve(SteeringRequest(default, inherits=False), "")
    except SteeringError as error:
        raise error.without_block((error.param or "").removeprefix(".") or None) from error


@router.delete(
    "/v1/steering/default", responses={200: {"model": DefaultsResponse}, **documented()}, summary="Clear the default"
)
def clear_default(served: Served) -> JSONResponse:
    """Go back to no steering by default (admin key)."""
    served.defaults = DimensionSteering()
    return JSONResponse(served.defaults.to_dict())


@router.post(
    "/v1/steering/compare",
    responses={200: {"model": ComparisonResponse}, **documented(404, 409, 422, 429, 503, 504)},
    summary="Compare settings on one prompt",
)
async def comparison(body: CompareRequest, context: SteeredContext) -> JSONResponse:
    """One prompt under several settings, unsteered among them, in one batch."""
    begun = await context.run(compare, context, body)
    return JSONResponse(await begun.response(context))
