"""A service that runs while things change: promotions, registries that come and go, full queues, shutting down."""

import shutil
import threading
import time
from contextlib import contextmanager
from dataclasses import replace

import pytest
from starlette.testclient import TestClient

from registry.errors import Unavailable
from registry.store import VectorStore
from registry.traces import TraceLog
from serving.api.app import create_app
from serving.api.middleware import ServiceMiddleware
from serving.api.tracing import trace_of
from serving.model.chat_templates import CHAT_TEMPLATES
from serving.served_model import ServedModel
from serving.settings import read_settings

ASKED = {"prompt": "The city", "max_tokens": 6, "temperature": 0}


@pytest.fixture
def registry(deployment, tmp_path, monkeypatch):
    """A registry of the test's own, which MLflow points to. No process begins for conversations: none is rendered."""
    import mlflow

    monkeypatch.setattr(CHAT_TEMPLATES, "start", lambda: None)

    shutil.copy(deployment.tracking_uri.removeprefix("sqlite:///"), tmp_path / "mlflow.db")
    own = replace(deployment, tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}")
    for variable, value in own.environment.items():
        monkeypatch.setenv(variable, value)
    mlflow.set_tracking_uri(own.tracking_uri)
    mlflow.set_registry_uri(own.tracking_uri)
    mlflow.set_experiment("trusttrace")
    return own


@contextmanager
def serving(registry, connect=VectorStore, wait=True, on_end=lambda _: None, **settings):
    """The application over the model, in this process, as a client on this machine sees it."""
    served = ServedModel(read_settings().model_copy(update=settings), connect)
    served.start()
    if wait:
        until(lambda: served.status in ("ready", "failed", "waiting for the registry"))
    app = create_app(served)
    client = TestClient(
        ServiceMiddleware(app, app, served.settings, on_end),
        base_url="http://localhost",
        client=("127.0.0.1", 1),
        raise_server_exceptions=False,
    )
    try:
        yield served, client
    finally:
        served.drain()


def until(holds, seconds=20):
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def complete(client, **body):
    reply = client.post("/v1/completions", json={**ASKED, **body})
    assert reply.status_code == 200, reply.text
    return reply.json()


def version(client, dimension="toxicity"):
    steering = {"strengths": {dimension: 1.0}}
    return complete(client, steering=steering)["steering"]["applied"][0]["version"]


def test_a_promoted_version_goes_live_and_running_requests_keep_theirs(registry, promote):
    with serving(registry, poll=0.1) as (served, client):
        found = {}

        def long() -> None:
            steering = {"strengths": {"toxicity": 2.0}}
            found["long"] = complete(client, max_tokens=450, ignore_eos=True, steering=steering)

        before = complete(client, max_tokens=6, steering={"strengths": {"toxicity": 2.0}})
        running = threading.Thread(target=long)
        running.start()
        until(lambda: served.require_loaded().engine.stats().active == 1)
        promote(registry, "toxicity", seed=99)
        until(lambda: version(client) == "2", seconds=5)
        running.join()
        assert found["long"]["steering"]["applied"] == before["steering"]["applied"]
        text, begun = (answer["choices"][0]["text"] for answer in (found["long"], before))
        assert text.startswith(begun)
        assert version(client, "privacy") == "1"


def test_a_champion_of_other_weights_is_refused(registry, promote):
    import mlflow

    with serving(registry, poll=0.1) as (_, client):
        found = promote(registry, "toxicity", seed=5)
        mlflow.MlflowClient().set_model_version_tag(found.name, found.version, "weights_digest", "f" * 64)
        refused = client.post("/v1/completions", json={**ASKED, "steering": {"strengths": {"toxicity": 1.0}}})
        until(
            lambda: (
                client.post("/v1/steering/validate", json={"steering": {"strengths": {"toxicity": 1}}}).json()["valid"]
                is False
            )
        )
        refused = client.post("/v1/completions", json={**ASKED, "steering": {"strengths": {"toxicity": 1.0}}})
        assert (refused.status_code, refused.json()["error"]["code"]) == (409, "vector_checkpoint_mismatch")
        assert "ffffffffffff" in refused.json()["error"]["message"]
        told = {info["dimension"]: info for info in client.get("/v1/steering/dimensions").json()["data"]}
        assert told["toxicity"]["vector"] is None and "ffffffffffff" in told["toxicity"]["problem"]
        assert version(client, "privacy") == "1"


def test_a_vector_of_another_model_cannot_be_loaded(registry, promote):
    with serving(registry) as (_, client):
        promote(registry, "toxicity", seed=7, model="other")
        reply = client.post("/v1/steering/vectors", json={"ref": "models:/steer.other.toxicity/1"})
        assert (reply.status_code, reply.json()["error"]["code"]) == (409, "vector_checkpoint_mismatch")
        assert "ckpt.other" in reply.json()["error"]["message"] and "ckpt.mini" in reply.json()["error"]["message"]


def test_an_older_version_can_be_loaded_used_and_unloaded(registry, promote):
    promote(registry, "fairness", seed=42)
    with serving(registry) as (_, client):
        reference = {"ref": "models:/steer.mini.fairness/1"}
        steering = {"vectors": [{"ref": "steer.mini.fairness/1", "strength": 1.0}]}
        assert client.post("/v1/completions", json={**ASKED, "steering": steering}).status_code == 404
        assert client.post("/v1/steering/vectors", json=reference).json()["live"]
        assert complete(client, steering=steering)["steering"]["applied"][0]["version"] == "1"
        assert client.request("DELETE", "/v1/steering/vectors", json=reference).status_code == 200
        assert client.request("DELETE", "/v1/steering/vectors", json=reference).status_code == 404
        assert client.post("/v1/completions", json={**ASKED, "steering": steering}).status_code == 404
        champion = client.request("DELETE", "/v1/steering/vectors", json={"ref": "steer.mini.fairness/2"})
        assert champion.status_code == 409


def test_default_strengths_hold_until_a_request_overrides_or_clears_them(registry):
    with serving(registry) as (_, client):
        refused = client.put("/v1/steering/default", json={"strengths": {"toxicity": 1e5}})
        assert (refused.status_code, refused.json()["error"]["param"]) == (422, "strengths.toxicity")
        none = {"strengths": {}, "targets": {}, "bound": None, "when": None, "apply": None}
        assert client.get("/v1/steering/default").json() == none
        client.put("/v1/steering/default", json={"strengths": {"toxicity": 1.0, "privacy": 0.5}})

        def applied(steering):
            told = complete(client, steering=steering)["steering"]["applied"]
            return {vector["dimension"]: vector.get("strength", vector.get("target")) for vector in told}

        assert applied(None) == applied({}) == {"toxicity": 1.0, "privacy": 0.5}
        assert applied({"strengths": {"toxicity": -1.0}}) == {"toxicity": -1.0, "privacy": 0.5}
        assert applied("off") == {}
        for wrong, param in (({"when": {}}, "when"), ({"targets": {"privacy": 1e5}}, "targets.privacy")):
            assert client.put("/v1/steering/default", json=wrong).json()["error"]["param"] == param
        given = {"targets": {"privacy": 1.5}, "bound": "at_least", "when": {"probe_below": 0.4}}
        assert client.put("/v1/steering/default", json=given).json() == {**none, **given}
        (inherited,) = complete(client)["steering"]["applied"]
        assert (inherited["bound"], inherited["when"]["probe_below"]) == ("at_least", 0.4)
        assert applied({"strengths": {"privacy": 1.0, "toxicity": 2.0}}) == {"privacy": 1.0, "toxicity": 2.0}
        (stricter,) = complete(client, steering={"when": {"probe_below": 0.1}})["steering"]["applied"]
        assert (stricter["target"], stricter["when"]["probe_below"]) == (1.5, 0.1)
        assert client.delete("/v1/steering/default").json() == none
        assert applied(None) == {}


@pytest.mark.parametrize("error", [Unavailable("the registry does not answer"), RuntimeError("an odd answer")])
def test_a_registry_may_answer_after_the_start(registry, error):
    broken = threading.Event()
    broken.set()

    class Store(VectorStore):
        def dimensions(self, model):
            if broken.is_set():
                raise error
            return super().dimensions(model)

    with serving(registry, Store, poll=0.1) as (served, client):
        until(lambda: served.trouble == ("registry", served.require_loaded().catalog.health.problem))
        assert str(error) in served.trouble[1]
        waiting = client.get("/readyz")
        assert (waiting.status_code, waiting.json()["status"]) == (503, "waiting for the registry")
        assert complete(client)["steering"]["applied"] == []
        refused = client.post("/v1/completions", json={**ASKED, "steering": {"strengths": {"toxicity": 1.0}}})
        assert refused.status_code == 503 and refused.headers["retry-after"]
        broken.clear()
        until(lambda: client.get("/readyz").status_code == 200)
        assert version(client) == "1"
        broken.set()
        until(lambda: not served.require_loaded().catalog.health.answers)
        assert version(client) == "1"
        assert client.get("/readyz").json()["registry"]["answers"] is False


def test_a_full_queue_says_when_to_come_back(registry):
    with serving(registry, slots=1, queue_limit=0) as (served, client):
        long = threading.Thread(target=complete, args=(client,), kwargs={"max_tokens": 450, "ignore_eos": True})
        long.start()
        until(lambda: served.require_loaded().engine.stats().active == 1)
        full = client.post("/v1/completions", json=ASKED)
        assert (full.status_code, full.json()["error"]["code"]) == (429, "queue_full")
        assert int(full.headers["retry-after"]) >= 1
        long.join()
        assert complete(client)


def test_more_answers_than_places_are_refused_for_good(registry):
    """No later try would find room, so it is no 429."""
    settings = [{"steering": {"strengths": {"toxicity": strength}}} for strength in (0.1, 0.2, 0.3)]
    with serving(registry, slots=1, queue_limit=1) as (_, client):
        for path, fields, param in (
            ("/v1/completions", {"n": 3}, "n"),
            ("/v1/completions", {"prompt": ["a", "b", "c"]}, "prompt"),
            ("/v1/steering/compare", {"settings": settings}, "settings"),
        ):
            reply = client.post(path, json={"prompt": "a", "max_tokens": 1, **fields})
            assert (reply.status_code, reply.json()["error"]["param"]) == (400, param)
            assert "asks for 3 answers at once, and the service has 2 places" in reply.json()["error"]["message"]
        assert client.post("/v1/completions", json={"prompt": "a", "max_tokens": 1, "n": 2}).status_code == 200


def test_an_answer_that_takes_too_long_is_broken_off(registry):
    with serving(registry, timeout=0.05) as (served, client):
        slow = client.post("/v1/completions", json={**ASKED, "max_tokens": 480, "ignore_eos": True})
        assert (slow.status_code, slow.json()["error"]["code"]) == (504, "timeout")
        with client.stream(
            "POST", "/v1/completions", json={**ASKED, "max_tokens": 480, "ignore_eos": True, "stream": True}
        ) as reply:
            lines = [line for line in reply.iter_lines() if line]
        assert '"code":"timeout"' in lines[-1] and "[DONE]" not in lines[-1]
        until(lambda: served.require_loaded().engine.stats().active == 0)


def test_draining_ends_what_runs_and_admits_nothing_more(registry):
    with serving(registry) as (served, client):
        found = {}
        long = threading.Thread(target=lambda: found.update(complete(client, max_tokens=300, ignore_eos=True)))
        long.start()
        until(lambda: served.require_loaded().engine.stats().active == 1)
        assert served.drain()
        long.join()
        assert found["usage"]["completion_tokens"] == 300
        assert client.get("/readyz").json()["status"] == "draining"
        assert client.post("/v1/completions", json=ASKED).status_code == 503


def test_a_missing_model_is_told_by_every_route(registry, tmp_path):
    with serving(registry, model=str(tmp_path / "nothing")) as (served, client):
        assert served.status == "failed"
        for reply in (client.get("/readyz"), client.post("/v1/completions", json=ASKED), client.get("/v1/models")):
            assert reply.status_code == 503
        assert "nothing" in client.get("/readyz").json()["problem"]
        assert client.get("/livez").status_code == 200


@pytest.mark.parametrize("route", ["/v1/completions", "/v1/probe"])
def test_an_engine_that_has_stopped_is_told_by_readyz(registry, monkeypatch, route):
    with serving(registry) as (served, client):
        assert client.get("/readyz").status_code == 200
        engine = served.require_loaded().engine

        def broken(_):
            raise RuntimeError

        broken_part = (engine._scheduler, "has_room") if route == "/v1/completions" else (engine._readings, "advance")
        monkeypatch.setattr(*broken_part, lambda *_: broken(None))
        running, later = (client.post(route, json=ASKED if "comp" in route else {"input": "a"}) for _ in range(2))
        told = client.get("/readyz")
        assert running.status_code == later.status_code == 503
        assert running.json() == later.json()
        assert running.json()["error"]["message"] == told.json()["problem"]
        assert (told.status_code, told.json()["status"]) == (503, "failed")
        assert "the engine has stopped" in told.json()["problem"]
        assert client.get("/livez").status_code == 200


def test_a_registered_checkpoint_is_served_by_its_models_name(registry):
    with serving(registry, model="mini", model_name=None) as (served, client):
        assert served.require_loaded().model.checkpoint.repo == str(registry.model)
        assert version(client) == "1"


def test_keys_guard_every_route_but_health(registry):
    with serving(registry, api_keys=("k1",), admin_key="a1") as (_, client):
        assert client.post("/v1/completions", json=ASKED).json()["error"]["code"] == "invalid_api_key"
        client.headers["authorization"] = "Bearer k1"
        assert complete(client)
        put = client.put("/v1/steering/default", json={"strengths": {}})
        assert (put.status_code, put.json()["error"]["code"]) == (403, "not_allowed")
        client.headers["authorization"] = "Bearer a1"
        assert client.put("/v1/steering/default", json={"strengths": {}}).status_code == 200


def test_texts_are_logged_only_on_request(registry):
    for keeps in (False, True):
        records = []
        with serving(registry, log_prompts=keeps) as (served, _):
            app = create_app(served)
            edge = ServiceMiddleware(app, app, served.settings, records.append)
            client = TestClient(edge, base_url="http://localhost", client=("127.0.0.1", 1))
            text = complete(client, steering={"strengths": {"toxicity": 1.0}})["choices"][0]["text"]
            client.post("/v1/completions", json={**ASKED, "stream": True})
            client.get("/v1/models")
        traces = [trace_of(record) for record in records]
        assert [trace is None for trace in traces] == [False, False, True]
        assert (records[0].to_dict().get("prompt"), traces[0].inputs.get("prompt")) == (
            ("The city",) * 2 if keeps else (None,) * 2
        )
        assert traces[0].outputs == ({"answers": {0: text}} if keeps else {"generated_tokens": 6})
        assert (text in str(records[0].to_dict())) == keeps
        assert "toxicity" in traces[0].attributes["applied"]


def test_a_default_that_cannot_be_applied_is_never_silent(registry):
    import mlflow

    alias = ("steer.mini.toxicity", "champion")
    with serving(registry, poll=0.1) as (_, client):
        client.put("/v1/steering/default", json={"strengths": {"toxicity": 1.0}})
        mlflow.MlflowClient().delete_registered_model_alias(*alias)
        until(lambda: client.get("/readyz").status_code == 503)
        ready = client.get("/readyz").json()
        assert (ready["status"], ready["part"]) == ("default not served", "default")
        for steering in (None, {}, {"strengths": {"privacy": 1.0}}):
            refused = client.post("/v1/completions", json={**ASKED, "steering": steering})
            error = refused.json()["error"]
            assert (refused.status_code, error["code"], error["param"]) == (503, "default_unavailable", None)
        assert complete(client, steering="off")["steering"]["applied"] == []
        own = client.post("/v1/completions", json={**ASKED, "steering": {"strengths": {"toxicity": 2.0}}})
        assert own.json()["error"]["param"] == "steering.strengths.toxicity"
        mlflow.MlflowClient().set_registered_model_alias(*alias, "1")
        until(lambda: client.get("/readyz").status_code == 200)
        assert complete(client)["steering"]["applied"][0]["dimension"] == "toxicity"


def test_a_dimension_of_any_script_can_be_exported(registry, promote):
    promote(registry, "诚实")
    with serving(registry) as (_, client):
        reply = client.get("/v1/steering/vectors/steer.mini.诚实/versions/1/export")
        assert reply.status_code == 200
        assert reply.headers["content-disposition"].endswith("steer.mini.%E8%AF%9A%E5%AE%9E-1.safetensors")


def test_feedback_is_kept_at_the_trace_of_its_answer(registry):
    import mlflow

    with serving(registry) as (served, plain):
        assert plain.post("/v1/feedback", json={"request_id": "r", "value": 1.0}).status_code == 409
        traces = TraceLog()
        app = create_app(served, traces)
        edge = ServiceMiddleware(app, app, served.settings, lambda record: _add_trace(traces, record))
        client = TestClient(edge, base_url="http://localhost", client=("127.0.0.1", 1))
        request_id = client.post("/v1/completions", json=ASKED).headers["x-request-id"]
        body = {"request_id": request_id, "name": "helpful", "value": True, "comment": "to the point"}
        assert client.post("/v1/feedback", json=body).status_code == 200
        place = mlflow.get_experiment_by_name("trusttrace-service").experiment_id
        (trace,) = mlflow.MlflowClient().search_traces(locations=[place])
        (assessment,) = trace.info.assessments
        assert (assessment.name, assessment.value, assessment.rationale) == ("helpful", True, "to the point")
        for field, value, told in (
            ("value", {}, "false, a number or a text"),
            ("name", "", "and any of _ . : -, not ''"),
        ):
            refused = client.post("/v1/feedback", json={**body, field: value})
            error = refused.json()["error"]
            assert (refused.status_code, error["param"]) == (400, field) and error["message"].endswith(told)
        unknown = client.post("/v1/feedback", json={**body, "request_id": "another"})
        assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "answer_not_found")


def _add_trace(traces, record):
    trace = trace_of(record)
    if trace is not None:
        traces.add(trace)
