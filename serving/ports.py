"""Ports: whether a service could listen where it is asked to, told before it tries."""

import errno
import os
import socket

LAST = 65_535


def listening_problem(host: str, port: int) -> str | None:
    """Why nothing can listen there, and what to do, in one sentence; nothing where something can."""
    if not 0 < port <= LAST:
        return f"there is no port {port}; choose one from 1 to {LAST}, such as {_choice(3000)}"
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
    except socket.gaierror:
        return f"the host {host} is not known; give an address of this machine, such as --host 127.0.0.1"
    except OSError as error:
        if error.errno == errno.EADDRNOTAVAIL:
            return f"{host} is no address of this machine; give one that is, such as --host 127.0.0.1"
        if error.errno == errno.EACCES:
            return f"port {port} is reserved for other users; choose one above 1023, such as {_choice(3000)}"
        other = port + 1 if port < LAST else port - 1
        return f"port {port} is not free ({error.strerror}); choose another, such as {_choice(other)}"
    return None


def _choice(port: int) -> str:
    """How a port is chosen, by who started the service: `make` takes no options."""
    return f"`make serve PORT={port}`" if "MAKELEVEL" in os.environ else f"--port {port}"
