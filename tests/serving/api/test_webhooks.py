"""MLflow's webhooks, by its own signature; test_workers.py has a real MLflow server send them."""

import json
import time
from types import SimpleNamespace

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from mlflow.entities.webhook import WebhookEvent
from mlflow.webhooks.delivery import _generate_hmac_signature
from mlflow.webhooks.types import get_example_payload_for_event

from serving.api import errors, webhook_routes
from serving.api.auth import WEBHOOK
from serving.settings import Settings

SECRET = "s3cret"


class Registry:
    """A catalog that counts what it is told."""

    announced = 0

    def announce(self):
        self.announced += 1


@pytest.fixture
def registry():
    return Registry()


@pytest.fixture
def client(registry):
    app = FastAPI()
    loaded = SimpleNamespace(name="mini", catalog=registry)
    app.state.served = SimpleNamespace(settings=Settings(webhook_secret=SECRET), require_loaded=lambda: loaded)
    app.state.deliveries = webhook_routes.Deliveries()
    app.include_router(webhook_routes.router)
    errors.install(app)
    return TestClient(app)


def body(name="steer.mini.toxicity"):
    event = WebhookEvent.from_str("model_version_alias.created")
    data = {**get_example_payload_for_event(event), "name": name, "alias": "champion"}
    return json.dumps({"entity": event.entity.value, "action": event.action.value, "timestamp": "now", "data": data})


def deliver(client, payload, *, secret=SECRET, delivery="d1", age=0, **headers):
    """As MLflow delivers, by its own signing function."""
    sent = str(int(time.time()) - age)
    signed = {
        "X-MLflow-Delivery-Id": delivery,
        "X-MLflow-Timestamp": sent,
        "X-MLflow-Signature": _generate_hmac_signature(secret, delivery, sent, payload),
    }
    headers = {"content-type": "application/json", **signed, **headers}
    return client.post(WEBHOOK, content=payload, headers={name: value for name, value in headers.items() if value})


def test_a_signed_event_is_followed_once(client, registry):
    payload = body()
    for followed in (True, False):
        reply = deliver(client, payload)
        assert (reply.status_code, reply.json()) == (200, {"followed": followed})
    assert registry.announced == 1
    assert deliver(client, payload, delivery="d2").json() == {"followed": True}


def test_a_delivery_that_failed_is_taken_again(client, registry, monkeypatch):
    monkeypatch.setattr(registry, "announce", lambda: (_ for _ in ()).throw(errors.ServiceUnavailable("full")))
    assert deliver(client, body()).status_code == 503
    monkeypatch.undo()
    assert deliver(client, body()).json() == {"followed": True}


@pytest.mark.parametrize("name", ["steer.other.toxicity", "ckpt.mini", "steer.minimal.toxicity", ""])
def test_other_models_are_ignored(client, registry, name):
    assert deliver(client, body(name)).json() == {"followed": False}
    assert registry.announced == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"secret": "guessed"}, "the signature does not fit"),
        ({"X-MLflow-Signature": None}, "are needed"),
        ({"X-MLflow-Delivery-Id": None}, "are needed"),
        ({"X-MLflow-Delivery-Id": "d9"}, "the signature does not fit"),
        ({"X-MLflow-Timestamp": "1"}, "the signature does not fit"),
        ({"X-MLflow-Timestamp": "9" * 5000}, "are needed"),
        ({"X-MLflow-Timestamp": "soon"}, "are needed"),
        ({"age": 301}, "older than 300 s"),
        ({"age": -302}, "older than 300 s"),
    ],
)
def test_what_the_secrets_holder_did_not_send_now_is_refused(client, registry, changes, message):
    reply = deliver(client, body(), **changes)
    assert (reply.status_code, reply.json()["error"]["code"]) == (401, "invalid_signature")
    assert message in reply.json()["error"]["message"] and registry.announced == 0


def test_another_body_does_not_fit_the_signature(client, registry):
    sent = str(int(time.time()))
    signature = _generate_hmac_signature(SECRET, "d1", sent, body())
    names = ("X-MLflow-Delivery-Id", "X-MLflow-Timestamp", "X-MLflow-Signature")
    headers = dict(zip(names, ("d1", sent, signature), strict=True))
    assert client.post(WEBHOOK, content=body("steer.mini.privacy"), headers=headers).status_code == 401
    assert registry.announced == 0


def test_old_deliveries_are_forgotten_first(monkeypatch):
    monkeypatch.setattr(webhook_routes, "MOST_DELIVERIES", 2)
    deliveries = webhook_routes.Deliveries()
    for delivery in ("a", "b", "c"):
        deliveries.add(delivery)
    assert [delivery in deliveries for delivery in "abc"] == [False, True, True]
