"""Test processes: ``--processes=3`` forks as many once all tests are collected, and gives each one group after another.

What takes a process that begins anew half a minute on a new machine, to compile, import and collect, is done once.
"""

import os
import shutil
import signal
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, NoReturn

import pytest
from filelock import FileLock

from tests.groups import GROUP

PROCESS, FILLED = "process-", ".filled"
"""What the temporary folders of processes begin with, and a file in a shared folder that is whole."""
Groups = deque[list[int]]
"""Tests by their places in the session, those of a group together."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--processes", type=int, default=1, help="how many processes run tests")


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    options = session.config.option
    if options.processes == 1 or options.collectonly or session.testsfailed:
        return None
    groups: dict[str, list[int]] = {}
    for place, item in enumerate(session.items):
        groups.setdefault(item.stash.get(GROUP, str(item.path)), []).append(place)
    Run(session, deque(groups.values())).finish(options.processes)
    return True


@dataclass
class Process:
    """A process that runs tests, as the one that forked it sees it."""

    pid: int
    connection: Connection
    left: list[int] = field(default_factory=list)
    """What it was given and has not finished; the first of them runs."""


class Run:
    """Hands groups out, and reports what comes back as if it happened here."""

    def __init__(self, session: pytest.Session, waiting: Groups) -> None:
        self._session, self._waiting = session, waiting
        self._processes: dict[Connection, Process] = {}
        self._begun = 0

    def finish(self, count: int) -> None:
        """Raises as pytest's own loop does where no more tests are to run."""
        _temporary(self._session.config).getbasetemp()
        try:
            while self._waiting or self._processes:
                while self._waiting and len(self._processes) < count:
                    self._begin()
                for connection in wait(list(self._processes)):
                    self._hear(self._processes[connection])  # type: ignore[index]
        finally:
            for process in self._processes.values():
                os.kill(process.pid, signal.SIGINT)
                os.waitpid(process.pid, 0)

    def _begin(self) -> None:
        own, others = Pipe()
        self._begun += 1
        pid = os.fork()
        if not pid:
            own.close()
            _run(self._session, others, self._begun)
        others.close()
        self._processes[own] = Process(pid, own, self._waiting.popleft())
        own.send(self._processes[own].left)

    def _hear(self, process: Process) -> None:
        try:
            message = process.connection.recv()
        except EOFError:
            self._end(process)
            return
        if message is None:
            process.left.pop(0)
            if not process.left:
                process.left = self._waiting.popleft() if self._waiting else []
                process.connection.send(process.left)
        else:
            hook = self._session.config.hook
            self._report(hook.pytest_report_from_serializable(config=self._session.config, data=message))

    def _end(self, process: Process) -> None:
        """It was given nothing more, or ended in the middle of a test: another one goes on with those left."""
        process.connection.close()
        del self._processes[process.connection]
        _, status = os.waitpid(process.pid, 0)
        if process.left:
            ended, *left = process.left
            self._waiting.extend([left] if left else [])
            item, code = self._session.items[ended], os.waitstatus_to_exitcode(status)
            reason = f"its process ended with exit code {code}"
            self._report(pytest.TestReport(item.nodeid, item.location, {}, "failed", reason, "call"))

    def _report(self, report: pytest.TestReport) -> None:
        self._session.config.hook.pytest_runtest_logreport(report=report)
        if self._session.shouldfail:
            raise self._session.Failed(self._session.shouldfail)
        if self._session.shouldstop:
            raise self._session.Interrupted(self._session.shouldstop)


class Forwarder:
    """Sends reports to the process that prints them."""

    def __init__(self, config: pytest.Config, connection: Connection) -> None:
        self._config, self._connection = config, connection

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._connection.send(self._config.hook.pytest_report_to_serializable(config=self._config, report=report))


def _run(session: pytest.Session, connection: Connection, number: int) -> NoReturn:
    """Run the tests that come over ``connection`` until there are no more, and end without returning to pytest."""
    code = 1
    try:
        _leave_to_parent(session.config, connection, number)
        while places := connection.recv():
            items = [session.items[place] for place in places]
            # The next group is not known yet: all but the session's fixtures end with this one.
            for item, following in zip(items, [*items[1:], session], strict=True):
                item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
                connection.send(None)
        session._setupstate.teardown_exact(None)
        code = 0
    except KeyboardInterrupt:
        session._setupstate.teardown_exact(None)
    finally:
        os._exit(code)


def _leave_to_parent(config: pytest.Config, connection: Connection, number: int) -> None:
    """What is printed is the parent's; what is captured and written to temporary files is the process's own."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    plugins: Any = config.pluginmanager
    for name in filter(plugins.hasplugin, ("terminalreporter", "terminalprogress")):
        plugins.unregister(name=name)
    plugins.register(Forwarder(config, connection))
    capture = plugins.getplugin("capturemanager")
    capture.stop_global_capturing()
    capture.start_global_capturing()
    capture.suspend_global_capture(in_=True)
    factory = _temporary(config)
    factory._basetemp = factory.mktemp(f"{PROCESS}{number}", numbered=False)


def filled_once(factory: pytest.TempPathFactory, name: str, fill: Callable[[Path], object]) -> Path:
    """A folder that all test processes read, filled by the first that asks for it."""
    own = factory.getbasetemp()
    folder = (own.parent if own.name.startswith(PROCESS) else own) / name
    with FileLock(f"{folder}.lock"):
        if not (folder / FILLED).exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            fill(folder)
            (folder / FILLED).touch()
    return folder


def _temporary(config: pytest.Config) -> Any:
    return config._tmp_path_factory  # type: ignore[attr-defined]
