"""The application on a port of this process: what a test asks over HTTP where it is not about BentoML."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from serving.api.app import create_app
from serving.api.connections import HalfClosableProtocol
from serving.api.middleware import ServiceMiddleware
from serving.served_model import ServedModel
from serving.settings import Settings
from tests.servers import free_port
from tests.serving.conftest import Deployment, tracked_at


@contextmanager
def listening(deployment: Deployment, **settings: Any) -> Iterator[str]:
    """Serve ``deployment`` over HTTP; yields the address once it is ready. MLflow points to its registry meanwhile."""
    chosen = Settings(model=str(deployment.model), model_name=deployment.name, precision="float32", **settings)
    with tracked_at(deployment.tracking_uri):
        served = ServedModel(chosen)
        app = create_app(served)
        edge = ServiceMiddleware(app, app, chosen, lambda _: None)
        config = uvicorn.Config(
            edge,
            port=free_port(),
            http=HalfClosableProtocol,
            log_level="warning",
            lifespan="off",
            timeout_keep_alive=75,
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, name="server")
        served.start()
        thread.start()
        try:
            while not (server.started and served.status == "ready"):
                assert thread.is_alive() and served.status in ("loading", "ready"), served.trouble
                time.sleep(0.02)
            yield f"http://127.0.0.1:{config.port}"
        finally:
            served.drain()
            server.should_exit = True
            thread.join()
