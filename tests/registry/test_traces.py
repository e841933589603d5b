"""Traces of requests in a real tracking store."""

import mlflow

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
