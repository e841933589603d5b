"""Huge pages: memory in pages of 2 MiB, where Linux gives them.

A step of a model reads every weight once. In pages of 4 KiB a good part of that time is for looking up where each page
lies, and what is fetched ahead ends with the page.
"""

import ctypes
import re
import sys
from collections.abc import Iterator
from pathlib import Path

MADV_COLLAPSE = 25
"""Name of madvise(2), since Linux 6.1: done at once, whatever the system's default is."""
PAGE = 2 * 2**20
LEAST = 2 * PAGE
"""Bytes of the smallest mapping that is worth it."""
DENSE = 0.9
"""The part of a mapping that is in memory at least: what is sparse shall stay so."""
MAPPING = re.compile(r"([0-9a-f]+)-([0-9a-f]+) rw-p \S+ \S+ 0 ")
"""Of memory that a process can write and no file holds, in smaps of proc(5)."""


def gather_memory() -> int:
    """Give back what is free, and ask for huge pages where this process holds memory; how many bytes it then has in
    them, 0 where none can be had. Takes some two seconds for a gigabyte.
    """
    if sys.platform != "linux":
        return 0
    library = ctypes.CDLL(None)
    if trim := getattr(library, "malloc_trim", None):  # glibc's; what was freed while weights were read is a third
        trim(0)
    madvise = library.madvise
    madvise.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    for begin, end in _dense_mappings():
        first, last = -(-begin // PAGE) * PAGE, end // PAGE * PAGE
        if last > first:
            madvise(first, last - first, MADV_COLLAPSE)
    return 1024 * sum(int(line.split()[1]) for line in _lines("smaps_rollup") if line.startswith("AnonHugePages:"))


def _dense_mappings() -> Iterator[tuple[int, int]]:
    """Where the large ones begin and end."""
    begin = end = 0
    for line in _lines("smaps"):
        if line.startswith("Rss:") and end - begin >= LEAST and int(line.split()[1]) * 1024 >= DENSE * (end - begin):
            yield begin, end
        elif match := MAPPING.match(line):
            begin, end = int(match[1], 16), int(match[2], 16)
        elif "-" in line.split(" ", 1)[0]:
            begin = end = 0


def _lines(file: str) -> list[str]:
    try:
        return Path("/proc/self", file).read_text().splitlines()
    except OSError:  # a system that shows no process its memory
        return []
