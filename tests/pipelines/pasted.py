"""The command that a command names as the next one."""

import re
import shlex
from itertools import pairwise


def next_parameters(printed: str, entry_point: str) -> dict[str, str]:
    """What the line ``next:`` gives ``entry_point``. Raises ``AssertionError`` where it names another command."""
    (command,) = re.findall(r"^next: (.*)$", printed, re.MULTILINE)
    words = shlex.split(command)
    assert words[: words.index("-P")] == ["mlflow", "run", ".", "-e", entry_point, "--env-manager", "local"]
    return dict(word.split("=", 1) for flag, word in pairwise(words) if flag == "-P")
