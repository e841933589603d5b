import io
import sys
import time
from types import SimpleNamespace

import pytest

from pipelines.cli.progress import finish, progress_bar


def test_in_a_log_thousands_of_updates_are_two_lines(monkeypatch):
    log = io.StringIO()
    monkeypatch.setattr(sys, "stderr", log)
    with progress_bar(5000, "probing", "statement") as bar:
        for step in range(5000):
            bar.set_postfix_str(f"toxicity, {step}", refresh=False)
            bar.update(1)
    first, last = log.getvalue().splitlines()
    assert first.startswith("probing: 0% 0/5000")
    assert last.startswith("probing: 100% 5000/5000")
    assert "toxicity, 4999" in last
    assert "\r" not in log.getvalue()


def test_a_log_gets_a_line_per_interval(monkeypatch):
    log = io.StringIO()
    monkeypatch.setattr(sys, "stderr", log)
    monkeypatch.setattr("pipelines.cli.progress.SECONDS_BETWEEN_LINES", 0.0)
    with progress_bar(3, "probing", "statement") as bar:
        for _ in range(3):
            bar.update(1)
    assert [line.split()[1] for line in log.getvalue().splitlines()[:4]] == ["0%", "33%", "67%", "100%"]


def test_a_bar_of_fewer_steps_than_there_may_be_ends(monkeypatch):
    log = io.StringIO()
    monkeypatch.setattr(sys, "stderr", log)
    with progress_bar(40, "evaluating", "condition") as bar:
        bar.update(12)
        finish(bar)
    assert log.getvalue().splitlines()[-1].startswith("evaluating: 100% 12/12")


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal_redraws_its_line(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with progress_bar(3, "probing", "statement") as bar:
        for _ in range(3):
            time.sleep(0.11)
            bar.update(1)
    drawn = terminal.getvalue().split("\r")
    assert len(drawn) > 4
    assert "100%|" in drawn[-1] and "3/3" in drawn[-1]
    assert all("\n" not in line for line in drawn[:-1])


def test_a_notebook_has_it_where_no_error_is_shown(monkeypatch):
    out, log = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", log)
    kernel = SimpleNamespace(IPKernelApp=SimpleNamespace(initialized=lambda: True))
    monkeypatch.setitem(sys.modules, "ipykernel.kernelapp", kernel)
    with progress_bar(1, "probing", "statement") as bar:
        bar.update(1)
    assert log.getvalue() == "" and "probing: 100% 1/1" in out.getvalue()


def test_the_package_of_notebooks_alone_makes_none(monkeypatch):
    pytest.importorskip("ipykernel.kernelapp")
    log = io.StringIO()
    monkeypatch.setattr(sys, "stderr", log)
    with progress_bar(1, "probing", "statement") as bar:
        bar.update(1)
    assert "probing: 100% 1/1" in log.getvalue()
