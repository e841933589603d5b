"""Waiting of OpenMP's threads for one another: by spinning on an idle machine, asleep on a busy one."""

import os
import re
from pathlib import Path
from statistics import median
from time import sleep

SPINS = 10_000
"""Longer than the work between two products of a small network takes."""
BRIEF_SPINS = 3_000
"""For a process that does other things too, and whose machine's load may change while it runs."""
SYSTEM = Path("/proc/stat")
LOOKS, SECONDS_BETWEEN = 5, 0.01


def choose_waiting(count: int = SPINS) -> None:
    """By the environment, before torch is imported; what that says already stands."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if "GOMP_SPINCOUNT" not in os.environ:
        os.environ["GOMP_SPINCOUNT"] = str(spins(count))


def spins(count: int = SPINS, system: Path = SYSTEM) -> int:
    """For ``GOMP_SPINCOUNT``: ``count`` if nothing else runs just now, else 0, as where the system does not tell.

    Threads that spin take cores from other work, and from the threads they wait for: up to 10x on a busy machine.
    """
    running = []
    for look in range(LOOKS):
        if look:
            sleep(SECONDS_BETWEEN)
        found = re.search(r"^procs_running (\d+)$", system.read_text(), re.MULTILINE) if system.is_file() else None
        if found is None:
            return 0
        running.append(int(found[1]))
    return count if median(running) <= 1 else 0
