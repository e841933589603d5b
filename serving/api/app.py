"""Application: every route over one served model, free of BentoML."""

from fastapi import FastAPI
from starlette.staticfiles import StaticFiles

from registry.traces import TraceLog
from serving.api import bento_client, errors, feedback_routes, health_routes, hidden_states_routes, webhook_routes
from serving.api.fair_share import FairShare
from serving.api.openai import routes as openai_routes
from serving.api.probe import routes as probe_routes
from serving.api.responses_api import routes as responses_routes
from serving.api.steering import routes as steering_routes
from serving.served_model import ServedModel

DESCRIPTION = """Steered text generation: OpenAI's routes with a strength per dimension of trustworthiness in every
request, and in every answer what was applied and where it came from."""


def create_app(served: ServedModel, traces: TraceLog | None = None) -> FastAPI:
    """The routes; the caller starts ``served`` and puts a ``ServiceMiddleware`` before the application."""
    app = FastAPI(
        title="TrustTrace",
        version="1",
        description=DESCRIPTION,
        openapi_url="/docs.json",
        docs_url=None,
        redoc_url=None,
    )
    app.state.served = served
    app.state.shares = FairShare()
    app.state.traces = traces
    app.state.deliveries = webhook_routes.Deliveries()
    shared = (openai_routes, responses_routes, steering_routes, probe_routes, hidden_states_routes, feedback_routes)
    for module in (*shared, bento_client, health_routes, webhook_routes):
        app.include_router(module.router)
    app.mount("/playground", StaticFiles(directory=health_routes.PAGE), name="playground")
    errors.install(app)
    return app


def route_templates(app: FastAPI) -> tuple[str, ...]:
    """The templates of all paths that metrics may name."""
    undocumented = ("/", "/health", "/healthz", "/metrics", "/docs", "/docs.json", "/schema.json", "/playground/{file}")
    return (*app.openapi()["paths"], *undocumented)
