"""Progress bars: alive on a terminal, a line now and then in a log."""

import sys
from collections.abc import Collection, Iterator
from typing import Any, TextIO, TypeVar

from tqdm import tqdm

Item = TypeVar("Item")

SECONDS_BETWEEN_LINES = 10.0
LINE = "{desc}: {percentage:.0f}% {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_fmt}{postfix}]"


class _Lines:
    """Turns what redraws one line of a terminal into lines of a file."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, text: str) -> None:
        if line := text.strip():
            self._file.write(f"{line}\n")

    def flush(self) -> None:
        self._file.flush()


def progress_bar(total: int, description: str, unit: str, *, delay: float = 0) -> Any:
    """A ``tqdm`` bar on stderr with an estimate of the time left, shown after ``delay`` seconds at the earliest.

    In a notebook it is on stdout, since notebooks show stderr as errors. Where that is no terminal it writes a line
    every ten seconds and one at the end. A postfix is set with ``refresh=False``, or it would be written at once.
    """
    bar: dict[str, Any] = {"total": total, "desc": description, "unit": unit, "delay": delay}
    stream = sys.stdout if is_notebook() else sys.stderr
    if stream.isatty():
        return tqdm(**bar, file=stream)
    return tqdm(**bar, file=_Lines(stream), bar_format=LINE, mininterval=SECONDS_BETWEEN_LINES)


def finish(bar: Any) -> None:
    """Let a bar end at all of its steps, where its total was the most that there could be."""
    bar.total = bar.n


def is_notebook() -> bool:
    """Whether this process is a notebook's kernel; that its package was imported alone says nothing."""
    kernels = sys.modules.get("ipykernel.kernelapp")
    return kernels is not None and bool(kernels.IPKernelApp.initialized())


def with_progress(items: Collection[Item], description: str, unit: str) -> Iterator[Item]:
    """Each of ``items``, with a bar that counts those that are done."""
    with progress_bar(len(items), description, unit) as bar:
        for item in items:
            yield item
            bar.update()
