"""Logs of a process whose registry fails, in a process of its own: loggers are shared."""

import logging

from serving.logs import WITH_SQL, configure_logs
from tests.forked import run_forked


def test_failed_sql_is_logged_without_its_parameters():
    def log():
        configure_logs()
        configure_logs()
        for name in WITH_SQL:
            try:
                raise ValueError("[parameters: ('my SSN is 078',)]")
            except ValueError as error:
                logging.getLogger(name).exception("read-only (%s)\n%s", name, error)
        logging.getLogger("mlflow.tracing").error("one line\nand another")

    ended = run_forked(log)
    assert ended.returncode == 0
    assert "078" not in ended.output and "Traceback" not in ended.output
    assert all(f"read-only ({name})" in ended.output for name in WITH_SQL)
    assert "and another" in ended.output
