"""The most memory that a process has held."""

import resource
from pathlib import Path


def most_resident() -> int:
    """KiB. What ``getrusage`` tells begins with what the process had that started this one, which may be more."""
    status = Path("/proc/self/status")
    if not status.is_file():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
