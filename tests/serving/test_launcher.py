"""Launcher: hang-ups and ports that were just taken, as the process that starts workers meets them."""

import errno
import signal
import socket
import sys
from types import SimpleNamespace

import pytest

from serving.launcher import close_port_at_end, end_at_hangup, require_heard, tell_taken_ports
from tests.hangups import hangups
from tests.servers import free_port


@pytest.mark.parametrize(
    ("option", "told"),
    [
        ("api_workers", "--api-workers 2 is not heard here: set TRUSTTRACE_WORKERS=2 in its place"),
        ("timeout", "--timeout 2 is not heard here: set TRUSTTRACE_TIMEOUT=2 in its place"),
        (
            "timeout_graceful_shutdown",
            "--timeout-graceful-shutdown 2 is not heard here: set TRUSTTRACE_DRAIN=2 in its place",
        ),
    ],
)
def test_an_option_that_changes_nothing_is_refused(option, told):
    require_heard({"port": 3000, "timeout": None, "timeout_keep_alive": 75})
    with pytest.raises(SystemExit, match=told):
        require_heard({option: 2})


def test_the_port_is_closed_before_the_workers_end():
    class Handler:
        def quit(self):
            done.append("end")

    done = []
    close_port_at_end(Handler)
    handler = Handler()
    sockets = SimpleNamespace(close_all=lambda: done.append("closed"))
    handler.controller = SimpleNamespace(arbiter=SimpleNamespace(sockets=sockets))
    handler.quit()
    assert done == ["closed", "end"]


@pytest.fixture
def handler():
    return SimpleNamespace(SIGNALS=[signal.SIGHUP, signal.SIGTERM], handle_hup="anew", handle_term="end")


def test_a_hangup_ends_the_service(handler):
    with hangups(signal.SIG_DFL):
        end_at_hangup(handler)
    assert (handler.handle_hup, handler.SIGNALS) == ("end", [signal.SIGHUP, signal.SIGTERM])


def test_a_hangup_is_nothing_below_nohup(handler):
    with hangups(signal.SIG_IGN):
        end_at_hangup(handler)
    assert handler.SIGNALS == [signal.SIGTERM]


@pytest.fixture
def hook(monkeypatch):
    """What ends a process that raised, after a port was found free."""
    told = []
    monkeypatch.setattr(sys, "excepthook", lambda *raised: told.append(raised[1]))
    return told


def raised(error):
    sys.excepthook(type(error), error, None)


def test_a_port_taken_meanwhile_is_one_sentence(hook, capfd):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        tell_taken_ports("127.0.0.1", port)
        raised(OSError(errno.EADDRINUSE, "Address already in use"))
    assert capfd.readouterr().err.startswith(f"port {port} is not free") and not hook


def test_a_port_of_bentomls_own_is_one_sentence(hook, capfd):
    tell_taken_ports("127.0.0.1", free_port())
    raised(OSError(errno.EADDRINUSE, "Address already in use (addr='tcp://127.0.0.1:1')"))
    assert capfd.readouterr().err.endswith("was taken while the service started; start it again\n") and not hook


def test_what_else_ends_it_keeps_its_traceback(hook, capfd):
    tell_taken_ports("127.0.0.1", free_port())
    error = OSError(errno.EACCES, "Permission denied")
    raised(error)
    assert hook == [error] and not capfd.readouterr().err
