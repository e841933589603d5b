"""Logs as lines of JSON, one line per event."""

import logging

from pythonjsonlogger.json import JsonFormatter

from registry.errors import redacted

LOGGERS = ("registry", "serving", "trusttrace")
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
    """Write this project's logs to standard error; other libraries' logs are left as they are, but for failed SQL."""
    handler = logging.StreamHandler()
    handler.setFormatter(LogFormatter())
    for name in LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.setLevel(level)
        logger.propagate = False
    for name in WITH_SQL:
        logging.getLogger(name).addFilter(_first_line_alone)


def _first_line_alone(record: logging.LogRecord) -> bool:
    """Leave out what follows the first line of a message, and the traceback, which repeats it."""
    record.msg, record.args, record.exc_info = next(iter(record.getMessage().splitlines()), ""), (), None
    return True
