"""Traces of requests in a real tracking store."""

import mlflow
import pytest

from registry.errors import Unavailable
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


def test_a_store_out_of_reach_costs_only_the_trace(tracking, monkeypatch):
    def refuse(_name):
        raise OSError("no route to host")

    monkeypatch.setattr(mlflow, "get_experiment_by_name", refuse)
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
