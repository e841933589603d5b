"""Errors that this project raises on purpose, as a tree:

    TrustTraceError
    ├── InvalidInput      an argument or data that the user can mend (also a ValueError)
    │   └── UnknownName   a name that does not exist; the message says which do
    ├── NotFound          a version, revision or file that is not there (also a LookupError)
    ├── Mismatch          two things that do not belong together: widths, models, digests (also a ValueError)
    ├── CorruptFile       a file that is not what it claims to be
    └── Unavailable       network, registry or disk out of reach

Every message is one sentence for the user: it names the values that clash and says what to do.
"""

import errno
import os
import re
from collections.abc import Iterable
from difflib import get_close_matches

FULL = (errno.ENOSPC, errno.EDQUOT)
"""Numbers of an ``OSError`` where a disk, or the share that a user has of it, is full."""

# A password may hold anything but white space, since libraries take it unquoted too; what follows a port is a path.
_CREDENTIALS = re.compile(r"(?<=://)(?:[^/@\s:]*:(?![0-9]{1,5}(?:[/?#\s]|$))\S*|[^/@\s\"'<>]*)@")
_PARAMETERS = re.compile(
    r"([?&;][\w-]*(?:password|passwd|pwd|token|secret|credential|signature|sig|key)=)[^&;\s\"'<>#]+", re.IGNORECASE
)


def redacted(text: str) -> str:
    """``text`` without the user names and passwords of the URIs in it, and without secrets among their parameters."""
    return _PARAMETERS.sub(r"\1***", _CREDENTIALS.sub("***@", text))


def first_line(error: BaseException, longest: int | None = None) -> str:
    """The first line of an error's text, with the next one where it is a heading, at most ``longest`` characters."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return " ".join(lines[: 2 if lines[0].endswith(":") else 1])[:longest].rstrip(".;:")


def no_temporary_folder(reason: str) -> str:
    """The sentence for a folder for temporary files that could not be made."""
    return (
        f"no folder for temporary files can be made ({reason}); free some room, or set TMPDIR to a folder that this "
        "user can write"
    )


class TrustTraceError(Exception):
    """Root of every error this project raises on purpose. No message of one holds the password of a URI."""

    def __init__(self, message: str = "") -> None:
        super().__init__(redacted(message))


class InvalidInput(TrustTraceError, ValueError):
    """An argument or data that the user can mend."""


class UnknownName(InvalidInput):
    """A name that does not exist."""


class NotFound(TrustTraceError, LookupError):
    """A version, revision or file that is not there."""


class Mismatch(TrustTraceError, ValueError):
    """Two things that do not belong together."""


class CorruptFile(TrustTraceError):
    """A file that is not what it claims to be."""


class Unavailable(TrustTraceError):
    """Network, registry or disk out of reach."""


def near_path(path: str) -> str:
    """``; did you mean ./series?`` where the folder of a ``path`` holds something of a like name, else ``;``."""
    folder, name = os.path.split(path.rstrip("/"))
    try:
        present = os.listdir(os.path.expanduser(folder) or ".")
    except OSError:
        return ";"
    near = get_close_matches(name, present, n=1, cutoff=0.6)
    return f"; did you mean {os.path.join(folder, near[0])}?" if near else ";"


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UnknownName:
    """The error for a ``name`` that is none of ``known``, with the nearest ones as a suggestion."""
    names = list(known)
    near = get_close_matches(name, names, n=1, cutoff=0.6)
    hint = f"; did you mean {near[0]!r}?" if near else ";"
    return UnknownName(f"unknown {kind} {name!r}{hint} known: {', '.join(names)}")
