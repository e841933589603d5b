"""Forked child: a function in a process of its own that has imported all that this one has."""

import os
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

import torch

from tests import stores


@dataclass(frozen=True)
class Ended:
    """How a child ended."""

    returncode: int
    """As ``subprocess`` has it: 1 where the function raised, a negative signal where one killed it."""
    output: str
    """What was written to standard output and standard error."""


def run_forked(function: Callable[[], object]) -> Ended:
    """Run ``function`` in a child of this process and wait for it.

    A new Python spends seconds on importing torch, transformers and MLflow before it does what a test is about.
    """
    with tempfile.TemporaryFile() as output:
        child = os.fork()
        if not child:
            _run(function, output.fileno())
        _, status = os.waitpid(child, 0)
        output.seek(0)
        return Ended(os.waitstatus_to_exitcode(status), output.read().decode())


def _run(function: Callable[[], object], output: int) -> NoReturn:
    """Ends the process without what pytest would do at its end."""
    returncode = 1
    try:
        os.dup2(output, 1)
        os.dup2(output, 2)
        sys.stdout = sys.stderr = os.fdopen(1, "w", buffering=1, closefd=False)
        torch.set_num_threads(1)  # the threads of its pool were not forked
        _warn_as_a_new_python()
        stores.forget_connections()
        function()
        returncode = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(returncode)


def _warn_as_a_new_python() -> None:
    """To pytest warnings are errors, of whatever library."""
    warnings.resetwarnings()
    for category in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
        warnings.simplefilter("ignore", category)
    warnings.filterwarnings("default", category=DeprecationWarning, module="__main__")
