"""Launcher: hang-ups and ports that were just taken, as the process that starts workers meets them."""

import errno
import signal
import socket
import sys
from types import SimpleNamespace

import pytest

from serving.launcher import end_at_hangup, tell_taken_ports
from tests.servers import free_port


@pytest.fixture
def handler():
    return SimpleNamespace(SIGNALS=[signal.SIGHUP, signal.SIGTERM], handle_hup="anew", handle_term="end")


def test_a_hangup_ends_the_service(handler):
    end_at_hangup(handler)
    assert (handler.handle_hup, handler.SIGNALS) == ("end", [signal.SIGHUP, signal.SIGTERM])


def test_a_hangup_is_nothing_below_nohup(handler):
    former = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        end_at_hangup(handler)
    finally:
        signal.signal(signal.SIGHUP, former)
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
