"""The BentoML service, and nothing else: `bentoml serve serving.service:SteeringService`.

BentoML runs the process, its workers and its clients; every route is the mounted application's.
"""

import os

from serving.waiting import BRIEF_SPINS, choose_waiting

# All are read once, by what is imported below.
choose_waiting(BRIEF_SPINS)
os.environ.setdefault("MALLOC_ARENA_MAX", "2")  # else every thread of glibc's keeps what a long text took
os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_CONFIGURE_LOGGING", "false")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")

LAUNCHER = os.getppid()
"""Of a worker the process that started it; looked for first, since the imports take seconds."""

import atexit
import importlib
import re
import shutil
from pathlib import Path
from typing import Any

import bentoml
import click
from bentoml._internal.configuration.containers import BentoMLContainer
from bentoml._internal.server.http import traffic
from circus.sighandler import SysHandler
from starlette.types import ASGIApp, Receive, Scope, Send

from serving.shared_folder import make_folder, take_room

STATE = "TRUSTTRACE_STATE"
"""Variable of the folder in which the workers of one service share metrics and administrators' changes."""

# The process that starts the workers imports this first, and they inherit its environment.
if STATE not in os.environ:
    os.environ[STATE] = make_folder()
    atexit.register(shutil.rmtree, os.environ[STATE], ignore_errors=True)
# BentoML keeps metrics in a folder that services share, and empties it when one starts. prometheus_client reads this.
os.environ["PROMETHEUS_MULTIPROC_DIR"] = os.environ[STATE]

from registry.errors import InvalidInput
from serving.imports import importing
from serving.launcher import (
    close_port_at_end,
    end_at_hangup,
    replace_killed_workers,
    require_heard,
    tell_taken_ports,
)
from serving.logs import configure_logs
from serving.ports import listening_problem
from serving.settings import Settings, read_settings

CONDA = Path(__file__).parents[1] / "conda.yaml"
"""The one list of requirements; a bento carries it."""


def starts_workers() -> bool:
    """Whether this process is `bentoml serve` itself, which starts the workers and answers nothing."""
    command = click.get_current_context(silent=True)
    return command is not None and command.info_name == "serve"


def require_usable_options() -> None:
    """Exit with one sentence where `bentoml serve` could not listen, or would not hear an option."""
    options = click.get_current_context().params
    require_heard(options)
    host, port = options.get("host") or BentoMLContainer.http.host.get(), options.get("port")
    port = BentoMLContainer.http.port.get() if port is None else port
    problem = listening_problem(host, port)
    if problem is not None:
        raise SystemExit(problem)
    tell_taken_ports(host, port)


def settings_of_environment() -> Settings:
    """The settings; exits with one sentence where one is wrong, in place of a traceback."""
    try:
        return read_settings()
    except InvalidInput as error:
        raise SystemExit(str(error)) from error


configure_logs()
if starts_workers():
    require_usable_options()
    end_at_hangup(SysHandler)
    close_port_at_end(SysHandler)
    replace_killed_workers(importlib.import_module("bentoml.serving"))
SETTINGS = settings_of_environment()
take_room(Path(os.environ[STATE]), SETTINGS.workers if starts_workers() else None)


class PassThrough:
    """In place of a layer of BentoML's that this service does without."""

    def __init__(self, app: ASGIApp, **_: Any) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)


# The service has a time limit of its own. BentoML 1.4 sets a timer for every request and cancels none, so that each is
# kept in memory, some 18 KiB, for as long as it might have lasted.
traffic.TimeoutMiddleware = PassThrough  # type: ignore[misc, assignment]


@bentoml.service(
    name="trusttrace",
    workers=SETTINGS.workers,
    image=bentoml.images.Image(python_version="3.11").python_packages(
        *re.findall(r"^      - (\S+)$", CONDA.read_text(), re.MULTILINE)
    ),
    logging={"access": {"enabled": False}},
    metrics={"enabled": False},
)
class SteeringService:
    """Steered text generation over HTTP."""

    def __init__(self) -> None:
        hosting.start()

    @bentoml.on_shutdown
    def shutdown(self) -> None:
        hosting.drain()

    async def __is_ready__(self) -> bool:
        return hosting.is_ready

    @bentoml.api(route="/generate")
    async def generate(
        self,
        prompt: str,
        strengths: dict[str, float] = {},  # noqa: B006
        max_tokens: int | None = None,
        temperature: float = 1.0,
        seed: int | None = None,
        chat: bool = False,
    ) -> dict[str, Any]:
        """Text for a prompt, steered: the signature that BentoML's client reads. Over HTTP the application answers."""
        return await hosting.generate(
            prompt=prompt,
            strengths=strengths,
            max_tokens=max_tokens,
            temperature=temperature,
            seed=seed,
            chat=chat,
        )


# The imports take seconds and half a gigabyte, so only the processes that answer have them.
if not starts_workers():
    if BentoMLContainer.tracing.exporter_type.get() is None:
        # Spans that go nowhere, of every token sent too, are a fifth of what a cheap request costs.
        asgi = importlib.import_module("opentelemetry.instrumentation.asgi")
        asgi.OpenTelemetryMiddleware = PassThrough  # type: ignore[attr-defined]
    with importing():
        from serving.api.connections import HalfClosableProtocol
        from serving.api.hosting import Hosting
        from serving.api.middleware import ServiceMiddleware

    configure_logs()
    importlib.import_module("uvicorn.protocols.http.auto").AutoHTTPProtocol = HalfClosableProtocol  # type: ignore[attr-defined]
    hosting = Hosting(SETTINGS, Path(os.environ[STATE]), LAUNCHER)
    SteeringService.mount_asgi_app(hosting.app, path="/")  # type: ignore[attr-defined]
    SteeringService.add_asgi_middleware(ServiceMiddleware, **hosting.middleware_options)  # type: ignore[attr-defined]
