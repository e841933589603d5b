"""Traces of requests in MLflow, written on a thread of their own: a full queue drops traces, never requests."""

import logging
import queue
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import mlflow
from mlflow.entities import AssessmentSource, AssessmentSourceType
from mlflow.exceptions import MlflowException

from registry.errors import NotFound, Unavailable, first_line
from registry.mlflow_client import ensure_experiment

logger = logging.getLogger(__name__)

EXPERIMENT = "trusttrace-service"
REQUEST_ID = "request_id"
"""The attribute and tag that a trace is found by."""
WAITING = 1000
REMEMBERED = 10_000
"""Traces that are on their way, or were."""
WRITTEN_EVERY = 1.0
"""Seconds, while traces keep coming."""
WRITTEN_WITHIN, OF_OTHERS_WITHIN = 10.0, 3.0
"""Seconds that feedback waits for a trace that this process has, and for one that another worker may have."""


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
    """Writes traces to ``experiment`` on a thread of its own. MLflow being out of reach costs traces and a log line.

    ``is_shared`` says that other workers answer beside this one, whose answers may be judged here.
    """

    def __init__(self, experiment: str = EXPERIMENT, waiting: int = WAITING, *, is_shared: bool = False) -> None:
        self._is_shared = is_shared
        self._added: dict[str, None] = {}
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
            return
        self._added[trace.attributes.get(REQUEST_ID, "")] = None
        for oldest in list(self._added)[:-REMEMBERED]:
            self._added.pop(oldest, None)

    def judge(self, request_id: str, name: str, value: bool | float | str, comment: str | None = None) -> str:
        """Attach a client's judgement to the trace of an answer; the assessment's id.

        Raises ``NotFound`` for an answer without a trace, ``Unavailable`` where MLflow does not answer, or has not
        written the trace yet. Waits for it to be written, by this worker or another one.
        """
        began, pause = time.monotonic(), 0.05
        try:
            while (trace_id := self._found(request_id)) is None:
                self._require_expected(request_id, time.monotonic() - began)
                time.sleep(pause)
                pause = min(2 * pause, 0.5)
            source = AssessmentSource(source_type=AssessmentSourceType.HUMAN, source_id="client")
            assessment = mlflow.log_feedback(
                trace_id=trace_id, name=name, value=value, source=source, rationale=comment
            )
        except (MlflowException, OSError) as error:
            raise Unavailable(f"the feedback could not be written: {first_line(error)}") from error
        return str(assessment.assessment_id)

    def _found(self, request_id: str) -> str | None:
        experiment = mlflow.get_experiment_by_name(self._experiment)
        places = [experiment.experiment_id] if experiment else []
        condition = f"tag.{REQUEST_ID} = '{request_id}'"
        traces = mlflow.MlflowClient().search_traces(
            locations=places, filter_string=condition, max_results=1, include_spans=False
        )
        return str(traces[0].info.trace_id) if traces else None

    def _require_expected(self, request_id: str, waited: float) -> None:
        """Raise what is to be said of an answer whose trace is not there after so many seconds."""
        is_own = request_id in self._added
        if is_own and waited >= WRITTEN_WITHIN:
            raise Unavailable(f"the trace of answer {request_id} is not written yet; send the feedback again")
        if not is_own and waited >= (OF_OTHERS_WITHIN if self._is_shared else 0.0):
            raise NotFound(f"no answer {request_id} is traced; send the X-Request-Id of an answer that was generated")

    def flush(self) -> None:
        """Wait until all that was added is written or dropped."""
        self._waiting.join()
        mlflow.flush_trace_async_logging()

    def _run(self) -> None:
        """MLflow keeps what it is given until it is told to write it: at once where nothing waits, else each second."""
        written = time.monotonic()
        while True:
            trace = self._waiting.get()
            try:
                self._write(trace)
                if self._waiting.empty() or time.monotonic() - written > WRITTEN_EVERY:
                    mlflow.flush_trace_async_logging()
                    written = time.monotonic()
            except Exception as error:
                self.dropped += 1
                self._added.pop(trace.attributes.get(REQUEST_ID, ""), None)
                logger.warning("a trace could not be written (%s: %s)", type(error).__name__, first_line(error))
            finally:
                self._waiting.task_done()

    def _write(self, trace: Trace) -> None:
        if not self._experiment_id:
            self._experiment_id = ensure_experiment(mlflow.MlflowClient(), self._experiment)
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
