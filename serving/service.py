"""The BentoML service, and nothing else: `bentoml serve serving.service:SteeringService`.

BentoML runs the process, its workers, its metrics and its clients; every route but ``/generate`` is the mounted
application's.
"""

import os

# All are read once, by what is imported below.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "0")
os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")

import atexit
import re
import shutil
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import bentoml
from bentoml._internal.server.http import traffic
from pydantic import ValidationError
from starlette.types import ASGIApp, Receive, Scope, Send

from registry.errors import TrustTraceError
from registry.traces import TraceLog
from serving.api import metrics
from serving.api.app import create_app
from serving.api.bento_client import generate
from serving.api.errors import as_reply, envelope
from serving.api.middleware import ServiceMiddleware
from serving.api.request_record import RequestRecord
from serving.api.tracing import trace_of
from serving.logs import configure_logs
from serving.served_model import ServedModel
from serving.settings import read_settings
from serving.steering.shared_state import SharedState

CONDA = Path(__file__).parents[1] / "conda.yaml"
"""Where requirements stand, once; a bento carries it."""

STATE = "TRUSTTRACE_STATE"
"""Where the workers of one service share what administrators change."""

configure_logs()
SETTINGS = read_settings()
# The process that starts the workers imports this first, and they inherit its environment.
if STATE not in os.environ:
    os.environ[STATE] = mkdtemp(prefix="trusttrace-")
    atexit.register(shutil.rmtree, os.environ[STATE], ignore_errors=True)
served = ServedModel(SETTINGS, shared=SharedState(Path(os.environ[STATE]) / "changes.json"))
app = create_app(served)


class NoTimeLimit:
    """In place of BentoML's time limit: the service has its own, and says so in its own words.

    BentoML 1.4 sets a timer for every request and cancels none, so that each is kept in memory, some 18 KiB, for as
    long as it might have lasted.
    """

    def __init__(self, app: ASGIApp, timeout: float) -> None:  # noqa: ARG002
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)


traffic.TimeoutMiddleware = NoTimeLimit  # type: ignore[misc, assignment]


@bentoml.service(
    name="trusttrace",
    workers=SETTINGS.workers,
    image=bentoml.images.Image(python_version="3.11").python_packages(
        *re.findall(r"^      - (\S+)$", CONDA.read_text(), re.MULTILINE)
    ),
    logging={"access": {"enabled": False}},
)
@bentoml.asgi_app(app, path="/")
class SteeringService:
    """Steered text generation over HTTP."""

    def __init__(self) -> None:
        served.start()
        metrics.follow(served)

    @bentoml.on_shutdown
    def shutdown(self) -> None:
        served.drain()

    async def __is_ready__(self) -> bool:
        return served.status == "ready"

    @bentoml.api(route="/generate")
    async def generate(
        self,
        ctx: bentoml.Context,
        prompt: str,
        strengths: dict[str, float] = {},  # noqa: B006
        max_tokens: int = SETTINGS.max_tokens,
        temperature: float = 1.0,
        seed: int | None = None,
        chat: bool = False,
    ) -> dict[str, Any]:
        """Text for a prompt, steered: what BentoML's client calls."""
        try:
            return await generate(served, prompt, strengths, max_tokens, temperature, seed, chat)
        except TrustTraceError as error:
            ctx.response.status_code, body, headers = as_reply(error)
            ctx.response.headers.update(headers)
            return body
        except ValidationError as error:
            ctx.response.status_code = 400
            first = error.errors()[0]
            return envelope(
                f"{'.'.join(map(str, first['loc']))}: {first['msg']}", "invalid_request_error", "invalid_request"
            )


traces = TraceLog() if SETTINGS.trace else None


def on_end(record: RequestRecord) -> None:
    """Count a request that has ended, and trace it where that was asked for."""
    metrics.observe(record)
    trace = trace_of(record) if traces else None
    if traces and trace:
        traces.add(trace)


SteeringService.add_asgi_middleware(ServiceMiddleware, own=app, settings=SETTINGS, on_end=on_end)  # type: ignore[attr-defined]
