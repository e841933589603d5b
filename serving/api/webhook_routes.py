"""Webhook route: MLflow says that an alias or a tag has changed, and every worker looks at once.

The format and the signature are MLflow's own (``mlflow.webhooks.delivery``, which follows Standard Webhooks): an
HMAC-SHA256 over ``<delivery id>.<seconds since the epoch>.<body>`` in the header ``X-MLflow-Signature``.
"""

import base64
import hashlib
import hmac
import logging
import re
import time
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from registry.records import vector_name
from serving.api.auth import WEBHOOK
from serving.api.dependencies import Loaded, Served
from serving.api.error_documents import documented
from serving.api.errors import ApiError, Forbidden

logger = logging.getLogger(__name__)

router = APIRouter(tags=["registry"])

TOLERANCE = 300.0
"""Seconds by which a delivery's time may differ from the service's clock."""
MOST_DELIVERIES = 10_000
"""Deliveries remembered; no more than a registry sends in ``TOLERANCE``."""


class InvalidSignature(ApiError):
    status, type, code = 401, "authentication_error", "invalid_signature"


class Deliveries:
    """The last deliveries, so that one that is sent again changes nothing while its time is still accepted."""

    def __init__(self) -> None:
        self._seen: dict[str, None] = {}

    def __contains__(self, delivery: str) -> bool:
        return delivery in self._seen

    def add(self, delivery: str) -> None:
        while len(self._seen) >= MOST_DELIVERIES:
            del self._seen[next(iter(self._seen))]
        self._seen[delivery] = None


class RegistryEvent(BaseModel):
    """What MLflow sends: the entity, what was done to it, and its names."""

    entity: str = Field(max_length=100, examples=["model_version_alias"])
    action: str = Field(max_length=100, examples=["created"])
    data: dict[str, Any] = Field(
        default_factory=dict, examples=[{"name": "steer.smollm2.toxicity", "alias": "champion", "version": "3"}]
    )


class EventTaken(BaseModel):
    followed: bool
    """Whether the registry is looked at because of it: it is about a vector of the served model, and is new."""


async def _signed(request: Request, served: Served) -> str:
    """The id of a delivery that the secret's holder has just sent. Raises ``Forbidden`` or ``InvalidSignature``."""
    secret = served.settings.webhook_secret
    if secret is None:
        raise Forbidden("webhooks are not taken here; start with TRUSTTRACE_WEBHOOK_SECRET, and give MLflow the same")
    names = ("x-mlflow-delivery-id", "x-mlflow-timestamp", "x-mlflow-signature")
    delivery, sent, given = (request.headers.get(name, "") for name in names)
    if not delivery or not re.fullmatch("[0-9]{1,15}", sent) or not given:
        raise InvalidSignature(f"the headers {', '.join(names)} are needed; register the webhook with a secret")
    if not hmac.compare_digest(given.encode(), signature(secret, delivery, sent, await request.body()).encode()):
        raise InvalidSignature("the signature does not fit; give MLflow and TRUSTTRACE_WEBHOOK_SECRET the same secret")
    if abs(time.time() - int(sent)) > TOLERANCE:
        raise InvalidSignature(f"the delivery is older than {TOLERANCE:g} s, or a clock is wrong; compare the clocks")
    return delivery


def signature(secret: str, delivery: str, sent: str, body: bytes) -> str:
    """MLflow's: ``v1,`` and the HMAC in base64."""
    digest = hmac.new(secret.encode(), f"{delivery}.{sent}.".encode() + body, hashlib.sha256).digest()
    return "v1," + base64.b64encode(digest).decode()


@router.post(
    WEBHOOK,
    responses={200: {"model": EventTaken}, **documented(503)},
    summary="Take MLflow's word that an alias or a tag has changed",
)
async def registry_changed(
    request: Request, delivery: Annotated[str, Depends(_signed)], event: RegistryEvent, loaded: Loaded
) -> JSONResponse:
    """For MLflow's webhooks, signed by TRUSTTRACE_WEBHOOK_SECRET in place of a key."""
    deliveries: Deliveries = request.app.state.deliveries
    concerned = str(event.data.get("name", "")).startswith(vector_name(loaded.name, ""))
    followed = concerned and delivery not in deliveries
    if followed:
        logger.info("MLflow says: %s %s of %s", event.entity, event.action, event.data["name"])
        loaded.catalog.announce()
        deliveries.add(delivery)
    return JSONResponse({"followed": followed})
