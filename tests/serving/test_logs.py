"""Logs of a process whose registry fails, in a process of its own: loggers are shared."""

import json
import logging
import threading
import warnings

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


def test_whoever_logs_writes_lines_of_json():
    def log():
        theirs = logging.getLogger("theirs")
        theirs.addHandler(logging.StreamHandler())
        theirs.propagate = False
        configure_logs()
        theirs.warning("at http://me:SECRET@host")
        logging.getLogger("mlflow.store").info("told")
        logging.getLogger("theirs.too").info("not told")
        warnings.simplefilter("default")
        warnings.warn("old", DeprecationWarning, stacklevel=1)
        failing = threading.Thread(target=lambda: 1 / 0, name="failing")
        failing.start()
        failing.join()

    first, second, third, fourth = map(json.loads, run_forked(log).output.splitlines())
    assert (first["logger"], first["message"]) == ("theirs", "at http://***@host")
    assert (second["message"], third["logger"]) == ("told", "py.warnings")
    assert (fourth["message"], fourth["level"]) == ("failing failed", "ERROR")
    assert fourth["traceback"].endswith("ZeroDivisionError: division by zero")
