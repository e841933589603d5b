"""Whether the service lives and can answer, and the page for people.

HealthResponse is told on the event loop, so that it does not wait for a thread while requests wait for the registry.
"""

from pathlib import Path
from typing import Any, Literal

from fastapi import APIRouter
from fastapi.responses import FileResponse, JSONResponse
from pydantic import BaseModel

from serving.api.dependencies import Served

router = APIRouter(tags=["health"])

PAGE = Path(__file__).parents[1] / "playground"
POLICY = "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"


class HealthResponse(BaseModel):
    status: Literal["alive", "ready", "loading", "waiting for the registry", "draining", "failed"]
    model: str | None = None
    problem: str | None = None
    registry: dict[str, Any] | None = None
    dimensions: list[str] | None = None


@router.get("/livez", responses={200: {"model": HealthResponse}})
@router.get("/healthz", include_in_schema=False)
async def livez() -> JSONResponse:
    """The process answers."""
    return JSONResponse({"status": "alive"})


@router.get("/readyz", responses={200: {"model": HealthResponse}, 503: {"model": HealthResponse}})
async def readyz(served: Served) -> JSONResponse:
    """Whether requests can be answered, and if not, why."""
    status, running = served.status, served.loaded
    told = {"status": status, "model": running.name if running else served.settings.model}
    if served.problem:
        told["problem"] = served.problem
    if running is None:
        return JSONResponse(told, 503, {"Retry-After": "2"})
    health = running.catalog.health
    registry = {"reached": health.reached, "answers": health.answers, "last_answer": health.last_answer}
    content = {**told, "registry": registry, "dimensions": list(running.catalog.served.bank.champions)}
    ready = status == "ready"
    return JSONResponse(content, 200 if ready else 503, None if ready else {"Retry-After": "2"})


@router.get("/", include_in_schema=False)
def page() -> FileResponse:
    """The playground."""
    headers = {"Content-Security-Policy": POLICY, "X-Content-Type-Options": "nosniff", "Cache-Control": "no-cache"}
    return FileResponse(PAGE / "index.html", headers=headers)
