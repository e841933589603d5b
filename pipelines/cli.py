"""The edge of every command: arguments in, one clear sentence and an exit code out."""

import errno
import os
import signal
import sys
from collections.abc import Callable, Sequence
from types import FrameType

from registry.errors import TrustTraceError

# Idle OpenMP threads that spin cost up to 10x on a busy machine; both must be set before torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "0")

USAGE_ERROR = 2
INTERRUPTED = 130


def run_command(command: Callable[[Sequence[str] | None], None], arguments: Sequence[str] | None = None) -> int:
    """Run ``command`` and return its exit code; what the user can mend is said in a sentence, without a traceback."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        command(arguments)
    except TrustTraceError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return USAGE_ERROR
    except KeyboardInterrupt:
        print("interrupted; run the same command again to go on from here", file=sys.stderr)  # noqa: T201
        return INTERRUPTED
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        print(  # noqa: T201
            f"error: the disk is full ({error.filename or 'while writing'}); free some space, or set TRUSTTRACE_CACHE "
            "to a larger disk, and run the same command again: finished units are kept",
            file=sys.stderr,
        )
        return USAGE_ERROR
    return 0


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    """A request to end is treated as Ctrl-C is, so that the run in MLflow does not stay RUNNING."""
    raise KeyboardInterrupt
