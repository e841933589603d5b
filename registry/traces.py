"""Traces of requests in MLflow, written on a thread of their own: a full queue drops traces, never requests."""

import logging
import queue
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import mlflow

logger = logging.getLogger(__name__)

EXPERIMENT = "trusttrace-service"
WAITING = 1000


@dataclass(frozen=True)
class Trace:
    """One request, as it ended. Times are nanoseconds since the epoch."""

    name: str
    began: int
    ended: int
    inputs: Mapping[str, Any]
    outputs: Mapping[str, Any]
    attributes: Mapping[str, str]
    failed: bool


class TraceLog:
    """Writes traces to ``experiment`` on a thread of its own. MLflow being out of reach costs traces and a log line."""

    def __init__(self, experiment: str = EXPERIMENT, waiting: int = WAITING) -> None:
        self.dropped = 0
        """Traces that were not written."""
        self._experiment, self._experiment_id = experiment, ""
        self._waiting: queue.Queue[Trace] = queue.Queue(waiting)
        threading.Thread(target=self._run, name="traces", daemon=True).start()

    def add(self, trace: Trace) -> None:
        """Queue ``trace``; from any thread, without waiting."""
        try:
            self._waiting.put_nowait(trace)
        except queue.Full:
            self.dropped += 1

    def flush(self) -> None:
        """Wait until all that was added is written or dropped."""
        self._waiting.join()
        mlflow.flush_trace_async_logging()

    def _run(self) -> None:
        while True:
            trace = self._waiting.get()
            try:
                self._write(trace)
            except Exception as error:
                self.dropped += 1
                logger.warning("a trace could not be written (%s: %s)", type(error).__name__, error)
            finally:
                self._waiting.task_done()

    def _write(self, trace: Trace) -> None:
        if not self._experiment_id:
            experiment = mlflow.get_experiment_by_name(self._experiment)
            self._experiment_id = experiment.experiment_id if experiment else mlflow.create_experiment(self._experiment)
        span = mlflow.start_span_no_context(
            trace.name,
            span_type="LLM",
            inputs=dict(trace.inputs),
            attributes=dict(trace.attributes),
            experiment_id=self._experiment_id,
            start_time_ns=trace.began,
        )
        span.end(outputs=dict(trace.outputs), status="ERROR" if trace.failed else "OK", end_time_ns=trace.ended)
