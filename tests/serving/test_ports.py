"""Ports: what cannot be listened on is named with a way out, and nothing else is refused."""

import socket

import pytest

from serving.ports import listening_problem
from tests.servers import free_port


@pytest.mark.parametrize(
    ("host", "port", "problem"),
    [
        ("127.0.0.1", 99999, "there is no port 99999; choose one from 1 to 65535, such as --port 3000"),
        ("127.0.0.1", -1, "there is no port -1; choose one from 1 to 65535, such as --port 3000"),
        ("192.0.2.1", 3000, "192.0.2.1 is no address of this machine; give one that is, such as --host 127.0.0.1"),
        ("no host", 3000, "the host no host is not known; give an address of this machine, such as --host 127.0.0.1"),
    ],
)
def test_what_does_not_exist_is_named(host, port, problem):
    assert listening_problem(host, port) == problem


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "localhost", "::1"])
def test_a_free_port_is_no_problem(host):
    if host == "::1" and not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no IPv6")
    assert listening_problem(host, free_port()) is None


def test_a_taken_port_is_told_with_another():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        problem = listening_problem("127.0.0.1", port)
    assert problem is not None and problem.startswith(f"port {port} is not free (Address already in use); choose")


def test_below_make_the_way_out_is_a_command_of_make(monkeypatch):
    monkeypatch.setenv("MAKELEVEL", "1")
    assert listening_problem("127.0.0.1", 70000).endswith("such as `make serve PORT=3000`")


def test_the_last_port_has_none_after_it(monkeypatch):
    def refuse(*_):
        raise OSError(98, "Address already in use")

    monkeypatch.setattr("socket.socket.bind", refuse)
    assert listening_problem("127.0.0.1", 65535) == (
        "port 65535 is not free (Address already in use); choose another, such as --port 65534"
    )
