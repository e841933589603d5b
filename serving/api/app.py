"""The HTTP application: every route over one served model, free of BentoML."""

from fastapi import FastAPI
from starlette.staticfiles import StaticFiles

from serving.api import errors, health_routes
from serving.api.openai import routes as openai_routes
from serving.api.probe import routes as probe_routes
from serving.api.steering import routes as steering_routes
from serving.served_model import ServedModel

DESCRIPTION = """Steered text generation: OpenAI's routes, a strength for each dimension of trustworthiness in every
request, and in every answer what was applied and where it came from."""


def create_app(served: ServedModel) -> FastAPI:
    """The routes; whoever runs the application starts ``served`` and puts an ``ServiceMiddleware`` before it."""
    app = FastAPI(
        title="TrustTrace",
        version="1",
        description=DESCRIPTION,
        openapi_url="/docs.json",
        docs_url=None,
        redoc_url=None,
    )
    app.state.served = served
    for module in (openai_routes, steering_routes, probe_routes, health_routes):
        app.include_router(module.router)
    app.mount("/playground", StaticFiles(directory=health_routes.PAGE), name="playground")
    errors.install(app)
    return app
