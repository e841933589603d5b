"""Chat template process: renders the templates of checkpoints, in children that it forks, until its parent ends.

It knows no torch (``USE_TORCH=0``), so that it is small and begins fast. A child begins in milliseconds, because it has
imported everything when it is forked; its memory is limited, and it may be killed without loss.
"""

import contextlib
import ctypes
import json
import os
import resource
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

MEMORY = 2**29
"""Bytes of address space that a child may add to what it is born with: many times what an honest template needs."""
CHARACTERS = 2**22
"""The longest text that a template may give."""

DIE_WITH_PARENT = 1
"""``PR_SET_PDEATHSIG`` of Linux."""
LONGEST = 60
"""Seconds of processor time after which a rendering ends itself, for when nobody is left to end it."""

Render = Callable[[dict[str, Any]], dict[str, str]]


def serve(control: int) -> None:
    """Fork a child for every connection that comes over the socket ``control``, until that is closed."""
    render = _renderer()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the children
    parent, own = socket.socket(fileno=control), os.getpid()
    while True:
        message, connections, _, _ = socket.recv_fds(parent, 1, 1)
        if not message:
            return
        if os.fork() == 0:
            _end_with(own)
            parent.close()
            _answer(socket.socket(fileno=connections[0]), render)
            os._exit(0)
        os.close(connections[0])


def _end_with(parent: int) -> None:
    """End this process with its parent, even amid a rendering: a service that was killed leaves nothing running."""
    with contextlib.suppress(AttributeError):  # another system than Linux
        ctypes.CDLL(None).prctl(DIE_WITH_PARENT, signal.SIGKILL)
    if os.getppid() != parent:  # it had ended before
        os._exit(0)


def _answer(connection: socket.socket, render: Render) -> None:
    """Say the child's process id, then answer every line by one line, until the connection is closed."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    connection.sendall(b"%d\n" % os.getpid())
    for line in connection.makefile("rb"):
        signal.setitimer(signal.ITIMER_PROF, LONGEST)
        reply = json.dumps(render(json.loads(line))).encode()
        signal.setitimer(signal.ITIMER_PROF, 0)
        connection.sendall(reply + b"\n")


def _renderer() -> Render:
    from jinja2.exceptions import TemplateError
    from transformers.utils.chat_template_utils import render_jinja_template

    def rendered(request: dict[str, Any]) -> dict[str, str]:
        try:
            texts, _ = render_jinja_template(
                conversations=[request["conversation"]],
                tools=request["tools"],
                chat_template=request["template"],
                add_generation_prompt=True,
                **request["variables"],
            )
            texts[0].encode()
        except TemplateError as error:
            return {"refused": str(error)[:500]}
        except UnicodeEncodeError:
            return {"failed": "its text holds half of a surrogate pair"}
        except Exception as error:
            return {"failed": f"{type(error).__name__}: {error}"[:500]}
        if len(texts[0]) > CHARACTERS:
            return {"failed": f"its text has more than {CHARACTERS:,} characters"}
        return {"text": texts[0]}

    return rendered
