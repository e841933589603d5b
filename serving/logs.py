"""Logs as lines of JSON, one an event."""

import json
import logging
from datetime import UTC, datetime

LOGGERS = ("registry", "serving", "trusttrace")
FIELDS = "fields"
"""The attribute of a log record that holds further fields: ``logger.info("…", extra={FIELDS: {…}})``."""


class JsonFormatter(logging.Formatter):
    """Time, level, process, logger, message, further fields, and the traceback where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "process": record.process,
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, FIELDS, {}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def configure_logs(level: int = logging.INFO) -> None:
    """Write what this project logs to standard error; other libraries' logs are left as they are."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter())
    for name in LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.setLevel(level)
        logger.propagate = False
