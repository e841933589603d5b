"""Chat template process: renders the templates of checkpoints, one request a line, until its input ends.

It knows no torch (``USE_TORCH=0``), so that it is small and begins fast, and its memory is limited.
"""

import json
import resource
import signal
import sys
from typing import Any

MEMORY = 2**30
"""Bytes of address space: several times what any honest template needs."""
CHARACTERS = 2**22
"""The longest text that a template may give."""


def serve() -> None:
    """Answer every line of standard input by one of standard output; an empty line says that it has begun."""
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
        except TemplateError as error:
            return {"refused": str(error)[:500]}
        except Exception as error:
            return {"failed": f"{type(error).__name__}: {error}"[:500]}
        if len(texts[0]) > CHARACTERS:
            return {"failed": f"its text has more than {CHARACTERS:,} characters"}
        return {"text": texts[0]}

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    _write("")
    for line in sys.stdin.buffer:
        _write(json.dumps(rendered(json.loads(line))))


def _write(line: str) -> None:
    sys.stdout.buffer.write(line.encode() + b"\n")
    sys.stdout.buffer.flush()
