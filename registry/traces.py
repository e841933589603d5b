"""Traces of requests in MLflow, written on a thread of their own: a full queue drops traces, never requests."""

import logging
import queue
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import mlflow
from mlflow.entities import AssessmentSource, AssessmentSourceType
from mlflow.exceptions import MlflowException

from registry.errors import NotFound, Unavailable, first_line

logger = logging.getLogger(__name__)

EXPERIMENT = "trusttrace-service"
REQUEST_ID = "request_id"
"""The attribute and tag that a trace is found by."""
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

    def judge(self, request_id: str, name: str, value: bool | float | str, comment: str | None = None) -> str:
        """Attach a client's judgement to the trace of an answer; the assessment's id.

        Raises ``NotFound`` for an answer without a trace, ``Unavailable`` where MLflow does not answer.
        """
        self.flush()
        try:
            experiment = mlflow.get_experiment_by_name(self._experiment)
            places = [experiment.experiment_id] if experiment else []
            condition = f"tag.{REQUEST_ID} = '{request_id}'"
            traces = mlflow.MlflowClient().search_traces(
                locations=places, filter_string=condition, max_results=1, include_spans=False
            )
            if not traces:
                raise NotFound(
                    f"no answer {request_id} is traced; send the X-Request-Id of an answer that was generated"
                )
            source = AssessmentSource(source_type=AssessmentSourceType.HUMAN, source_id="client")
            trace_id = traces[0].info.trace_id
            assessment = mlflow.log_feedback(
                trace_id=trace_id, name=name, value=value, source=source, rationale=comment
            )
        except (MlflowException, OSError) as error:
            raise Unavailable(f"the feedback could not be written: {first_line(error)}") from error
        return str(assessment.assessment_id)

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
                logger.warning("a trace could not be written (%s: %s)", type(error).__name__, first_line(error))
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
            tags={REQUEST_ID: trace.attributes.get(REQUEST_ID, "")},
            experiment_id=self._experiment_id,
            start_time_ns=trace.began,
        )
        span.end(outputs=dict(trace.outputs), status="ERROR" if trace.failed else "OK", end_time_ns=trace.ended)
