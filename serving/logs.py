"""Logs as lines of JSON, one line per event, whoever logs it: this project, BentoML, uvicorn, MLflow or Python."""

import logging
import threading

from pythonjsonlogger.json import JsonFormatter

from registry.errors import redacted

TELLING = ("registry", "serving", "trusttrace", "bentoml", "mlflow")
"""Loggers whose information is written; of others, warnings and what is worse."""
WITH_SQL = ("mlflow.store.db.utils", "mlflow.tracing.export.mlflow_v3")
"""They write a failed SQL statement with its parameters: the texts of traces, and comments of feedback."""
FIELDS = ("levelname", "process", "name", "message")
NAMES = {"timestamp": "time", "levelname": "level", "name": "logger", "exc_info": "traceback"}


class LogFormatter(JsonFormatter):
    """Time, level, process, logger, message, the fields given as ``extra``, and the traceback where there is one.

    Passwords in URIs are never written, whoever put them into a message.
    """

    def __init__(self) -> None:
        super().__init__(
            FIELDS, timestamp=True, rename_fields=NAMES, json_ensure_ascii=False, rename_fields_keep_missing=False
        )

    def format(self, record: logging.LogRecord) -> str:
        return redacted(super().format(record))


def configure_logs(level: int = logging.INFO) -> None:
    """Write all logs of this process to standard error, in one format.

    Libraries that are imported later can bring a handler and a format of their own: call it again then.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(LogFormatter())
    logging.root.handlers[:] = [handler]
    for logger in [*logging.root.manager.loggerDict.values()]:
        if isinstance(logger, logging.Logger):
            logger.handlers.clear()
            logger.propagate = True
    for name in TELLING:
        logging.getLogger(name).setLevel(level)
    for name in WITH_SQL:
        logging.getLogger(name).addFilter(_first_line_alone)
    logging.captureWarnings(capture=True)
    threading.excepthook = _log_failure


def _log_failure(failure: threading.ExceptHookArgs) -> None:
    name = failure.thread.name if failure.thread else "a thread"
    failed = (failure.exc_type, failure.exc_value or failure.exc_type(), failure.exc_traceback)
    logging.getLogger(__name__).error("%s failed", name, exc_info=failed)


def _first_line_alone(record: logging.LogRecord) -> bool:
    """Leave out what follows the first line of a message, and the traceback, which repeats it."""
    record.msg, record.args, record.exc_info = next(iter(record.getMessage().splitlines()), ""), (), None
    return True
