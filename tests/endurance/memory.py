"""The memory of a service while it runs, and how fast it grows."""

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import psutil


def allocated(pid: int) -> float:
    """MiB that a process and all below it have allocated, without mapped files, which other programs share.

    The workers of a service are in process groups of their own, so they are found by their parents.
    """
    total = 0.0
    root = psutil.Process(pid)
    for process in (root, *root.children(recursive=True)):
        try:
            lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(float(line.split()[1]) / 1024 for line in lines if line.startswith("Pss_Anon:"))
    return total


class MemoryWatch(threading.Thread):
    """Samples the memory of a process and all below it every so many seconds, until ``stop``."""

    def __init__(self, pid: int, every: float, held: Callable[[], float] = lambda: 0.0) -> None:
        """``held`` tells MiB that are kept on purpose."""
        super().__init__(daemon=True)
        self.samples: list[tuple[float, float, float]] = []
        """Seconds since the start, MiB, and those of them that are kept on purpose."""
        self._pid, self._every, self._held, self._stopped = pid, every, held, threading.Event()

    def run(self) -> None:
        began = time.monotonic()
        while not self._stopped.wait(self._every):
            self.samples.append((time.monotonic() - began, allocated(self._pid), self._held()))

    def stop(self) -> None:
        self._stopped.set()
        self.join()


def slope(samples: Sequence[tuple[float, float]], *, after: float, block: float = 30.0) -> tuple[float, float, float]:
    """MiB a minute by least squares over samples after so many seconds, with its 95 % interval.

    Neighbouring samples depend on each other, so the interval is from a bootstrap of the residuals in blocks of
    ``block`` seconds.
    """
    times, values = np.array([sample for sample in samples if sample[0] >= after]).T
    minutes = times / 60
    gradient, start = np.polyfit(minutes, values, 1)
    residuals = values - (gradient * minutes + start)
    rows = max(1, round(block / float(np.median(np.diff(times)))))
    rng = np.random.default_rng(0)
    found = []
    for _ in range(2000):
        starts = rng.integers(0, max(1, len(values) - rows + 1), size=-(-len(values) // rows))
        drawn = np.concatenate([residuals[start : start + rows] for start in starts])[: len(values)]
        found.append(np.polyfit(minutes, gradient * minutes + start + drawn, 1)[0])
    return float(gradient), *(float(bound) for bound in np.quantile(found, (0.025, 0.975)))
