"""The real service of `tests/serving`, for clients that live in an environment of their own."""

import shutil

import pytest

from tests.clients.calling_model import save_calling_model
from tests.serving.conftest import (
    Deployment,
    Service,
    chat_model,
    deployment,
    promoted,
    service,
    service_url,
    tracked_at,
)

__all__ = ["chat_model", "deployment", "service", "service_url"]


@pytest.fixture(scope="session")
def calling_service(chat_model, empty_database, tmp_path_factory):
    """A service whose model calls tools."""
    root = tmp_path_factory.mktemp("calling")
    shutil.copy(empty_database, root / "mlflow.db")
    model = save_calling_model(chat_model, root / "model")
    deployment = Deployment(model, f"sqlite:///{root / 'mlflow.db'}", "caller")
    with tracked_at(deployment.tracking_uri):
        promoted(deployment, "privacy")
    running = Service(deployment, root / "log").await_ready()
    yield running
    running.stop()
