"""Traces of requests in a real tracking store."""

import threading
import time

import mlflow
import pytest

from registry.errors import NotFound, Unavailable
from registry.mlflow_client import ensure_experiment
from registry.traces import Trace, TraceLog


def test_a_trace_is_written_with_its_times_and_what_failed(tracking):
    log = TraceLog("served")
    for failed in (False, True):
        log.add(Trace("/v1/x", 1_000_000_000, 3_000_000_000, {"prompt_tokens": 3}, {}, {"request_id": "r"}, failed))
    log.flush()
    experiment = mlflow.get_experiment_by_name("served").experiment_id
    found = mlflow.search_traces(locations=[experiment], return_type="list")
    assert sorted(trace.info.status for trace in found) == ["ERROR", "OK"]
    assert {trace.info.execution_time_ms for trace in found} == {2000}
    assert log.dropped == 0


def traced(request_id):
    return Trace("/v1/x", 1, 2, {}, {}, {"request_id": request_id}, False)


def test_an_answer_of_another_worker_can_be_judged(tracking):
    """Its trace is still on its way there."""
    own, other = TraceLog("served", is_shared=True), TraceLog("served", is_shared=True)
    later = threading.Timer(0.5, lambda: other.add(traced("theirs")))
    later.start()
    assert own.judge("theirs", "helpful", True)
    later.join()


def test_an_answer_that_nobody_gave_is_known_at_once(tracking):
    log = TraceLog("served")
    log.add(traced("mine"))
    began = time.monotonic()
    with pytest.raises(NotFound, match="no answer other is traced"):
        log.judge("other", "helpful", True)
    assert time.monotonic() - began < 2
    assert log.judge("mine", "helpful", True)


def test_feedback_before_a_trace_is_written_is_to_come_again(tracking, monkeypatch):
    monkeypatch.setattr("registry.traces.WRITTEN_WITHIN", 0.2)
    monkeypatch.setattr(TraceLog, "_write", lambda *_: None)
    log = TraceLog("served")
    log.add(traced("mine"))
    with pytest.raises(Unavailable, match="the trace of answer mine is not written yet; send the feedback again"):
        log.judge("mine", "helpful", True)


def test_two_may_make_an_experiment_at_once(tracking, monkeypatch):
    client, seen = mlflow.MlflowClient(), []
    look = client.get_experiment_by_name
    made = client.create_experiment("served")

    def too_early(name):
        seen.append(name)
        return look(name) if len(seen) > 1 else None

    monkeypatch.setattr(client, "get_experiment_by_name", too_early)
    assert ensure_experiment(client, "served") == made
    assert ensure_experiment(client, "another") != made


def test_a_store_out_of_reach_costs_only_the_trace(tracking, monkeypatch):
    def refuse(_client, _name):
        raise OSError("no route to host")

    monkeypatch.setattr(mlflow.MlflowClient, "get_experiment_by_name", refuse)
    log = TraceLog("served")
    log.add(Trace("/v1/x", 1, 2, {}, {}, {}, False))
    log.flush()
    assert log.dropped == 1


def test_a_read_only_store_is_told_without_sql(tracking, tmp_path, caplog):
    log = TraceLog("served")
    log.add(Trace("/v1/x", 1, 2, {}, {}, {"request_id": "r"}, False))
    log.flush()
    mlflow.set_tracking_uri(f"sqlite:///file:{tmp_path / 'mlflow.db'}?mode=ro&uri=true")
    with pytest.raises(Unavailable, match="could not be written: .*readonly database") as refused:
        log.judge("r", "helpful", True, "my SSN is 078")
    new = TraceLog("not there yet")
    new.add(Trace("/v1/x", 1, 2, {}, {}, {"request_id": "s"}, False))
    new.flush()
    told = [record.getMessage() for record in caplog.records if record.name == "registry.traces"]
    assert new.dropped == len(told) == 1
    for message in (str(refused.value), *told):
        assert "readonly database" in message and "INSERT" not in message and "078" not in message
        assert len(message.splitlines()) == 1
