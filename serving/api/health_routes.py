"""Health routes, metrics, and the page for people.

They run on the event loop, so that they do not wait for a thread while requests wait for the registry.
"""

from pathlib import Path
from typing import Any, Literal

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel

from serving.api import docs_page, metrics
from serving.api.dependencies import Record, Served
from serving.model.text_tokens import BYTES_PER_CHARACTER
from serving.served_model import Part, Status

router = APIRouter(tags=["health"])

PAGE = Path(__file__).parents[1] / "playground"
POLICY = "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"


class HealthResponse(BaseModel):
    status: Literal["alive"] | Status
    model: str | None = None
    part: Part | None = None
    """The part of the service that is in trouble."""
    problem: str | None = None
    """Its trouble in words, for clients that hold a key."""
    registry: dict[str, Any] | None = None
    dimensions: list[str] | None = None
    slots: dict[str, int] | None = None
    """Bytes of keys and values that are held, and that will be when every slot is filled to the window."""
    prefix_cache: dict[str, int] | None = None
    """Bytes that are held, and that may be, for prompts that begin alike."""
    texts: dict[str, int] | None = None
    """Bytes that the longest text of a request takes, at most, while it is made tokens."""
    weights: dict[str, int] | None = None
    """Bytes of weights in the precision of the model, and of those held in four bits too."""
    pack: dict[str, str] | None = None
    """What became of the pack that the settings name: `state`, its digest, and for clients that hold a key why."""


@router.get("/livez", responses={200: {"model": HealthResponse}}, summary="Whether the process answers")
@router.get("/healthz", include_in_schema=False)
@router.get("/health", include_in_schema=False)
async def livez() -> JSONResponse:
    return JSONResponse({"status": "alive"})


@router.get(
    "/readyz",
    responses={200: {"model": HealthResponse}, 503: {"model": HealthResponse}},
    summary="Whether requests can be answered, and if not, why",
)
async def readyz(served: Served, record: Record) -> JSONResponse:
    """Without a key it names the part in trouble only; the message can name hosts and paths."""
    status, loaded, trouble = served.status, served.loaded, served.trouble
    content: dict[str, Any] = {"status": status}
    if loaded is not None or record.is_trusted:
        content["model"] = loaded.name if loaded else served.settings.model
    if trouble is not None:
        content["part"] = trouble[0]
        if record.is_trusted:
            content["problem"] = trouble[1]
    if loaded is not None:
        health = loaded.catalog.health
        content["registry"] = {"reached": health.reached, "answers": health.answers, "last_answer": health.last_answer}
        content["dimensions"] = list(loaded.catalog.served.bank.champions)
        content["texts"] = {"full": BYTES_PER_CHARACTER * served.settings.body_limit}
        stats = loaded.engine.stats()
        if stats.slots is not None:
            content["slots"] = dict(zip(("held", "full"), stats.slots, strict=True))
        if stats.prefix_cache is not None:
            content["prefix_cache"] = dict(zip(("held", "limit"), stats.prefix_cache, strict=True))
        if stats.weights is not None:
            content["weights"] = dict(zip(("loaded", "four_bit"), stats.weights, strict=True))
    if served.pack is not None:
        told = {"message": served.pack.message} if record.is_trusted else {}
        content["pack"] = {"state": served.pack.state, "digest": served.pack.digest, **told}
    return JSONResponse(content, *((200, None) if status == "ready" else (503, {"Retry-After": "2"})))


@router.get("/metrics", include_in_schema=False)
async def prometheus() -> Response:
    return Response(await run_in_threadpool(metrics.exposition), media_type=CONTENT_TYPE_LATEST)


@router.get("/docs", include_in_schema=False)
async def docs(request: Request) -> HTMLResponse:
    """Every route with its fields, an example and its errors."""
    headers = {"Content-Security-Policy": docs_page.POLICY, "X-Content-Type-Options": "nosniff"}
    return HTMLResponse(docs_page.docs_page(request.app.openapi()), headers=headers)


@router.get("/", include_in_schema=False)
def page() -> FileResponse:
    headers = {"Content-Security-Policy": POLICY, "X-Content-Type-Options": "nosniff", "Cache-Control": "no-cache"}
    return FileResponse(PAGE / "index.html", headers=headers)
