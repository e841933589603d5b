"""The edge of every command: arguments in, one clear sentence and an exit code out."""

import ctypes
import os
import signal
import sys
from collections.abc import Callable, Sequence
from types import FrameType

from registry.errors import FULL, TrustTraceError
from serving.lasting_objects import pass_over_lasting_objects
from serving.waiting import choose_waiting

choose_waiting()  # before torch is imported

USAGE_ERROR = 2
INTERRUPTED = 130
INTERRUPTION = (
    "interrupted; run the same command again: checkpoints, units and trained vectors that are finished are found, and "
    "the rest is done anew"
)
DISK_FULL = ("[Errno 28]", "(os error 28)", "database or disk is full")
"""How Python, safetensors and SQLite say so; the latter two raise errors of their own kinds."""


M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
"""Names of malloc.h."""
LARGEST_KEPT = 32 * 2**20
"""Bytes of the largest block that glibc can be told to take from the heap."""
ARENAS = 2
"""Heaps that threads share: each keeps what it freed, and pools of threads come and go."""
MOST_KEPT = 2**31 - 1
"""Bytes at the heap's end that are not given back."""


def run_command(command: Callable[[Sequence[str] | None], None], arguments: Sequence[str] | None = None) -> int:
    """Run ``command`` and return its exit code; what the user can mend is said in a sentence, without a traceback."""
    signal.signal(signal.SIGTERM, _interrupt)
    keep_freed_memory()
    pass_over_lasting_objects()
    try:
        command(arguments)
    except KeyboardInterrupt:
        print(INTERRUPTION, file=sys.stderr)  # noqa: T201
        return INTERRUPTED
    except Exception as error:
        sentence = _disk_full(error) or (str(error) if isinstance(error, TrustTraceError) else "")
        if not sentence:
            raise
        print(f"error: {sentence}", file=sys.stderr)  # noqa: T201
        return USAGE_ERROR
    return 0


def keep_freed_memory() -> bool:
    """Let this process reuse the memory that it frees; whether its C library can.

    glibc returns every block above 128 KiB to the system, which then zeroes it page by page for the next forward pass:
    a sixth of the time of pre-training. Larger blocks than ``LARGEST_KEPT`` still go back.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is None:
        return False
    kept = mallopt(M_MMAP_THRESHOLD, LARGEST_KEPT), mallopt(M_TRIM_THRESHOLD, MOST_KEPT)
    return all([*kept, mallopt(M_ARENA_MAX, ARENAS)])


def _disk_full(error: BaseException) -> str:
    """The sentence for a disk that was full at ``error`` or at what led to it, or none."""
    chain: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in chain:
        chain.append(cause)
        cause = cause.__cause__ or cause.__context__
    full = [cause for cause in chain if getattr(cause, "errno", None) in FULL or _says_full(cause)]
    if not full:
        return ""
    place = getattr(full[-1], "filename", None) or "while writing"
    return (
        f"the disk is full ({place}); free some space, or set TRUSTTRACE_CACHE or MLFLOW_TRACKING_URI to a larger "
        "disk, and run the same command again: finished units are kept"
    )


def _says_full(error: BaseException) -> bool:
    return any(words in str(error) for words in DISK_FULL)


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    """A request to end is treated as Ctrl-C is, so that the run in MLflow does not stay RUNNING."""
    raise KeyboardInterrupt


def listed(value: str) -> tuple[str, ...]:
    """The parts of a parameter that are separated by commas; ``none`` has none."""
    return () if value == "none" else tuple(part.strip() for part in value.split(",") if part.strip())
