"""How long work takes, and by how much two pieces of work differ."""

import time
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Float

T = TypeVar("T")


def seconds(work: Callable[[], object], repeats: int = 3) -> float:
    """The least time of some repetitions: what the work costs when nothing disturbs it."""
    return min(_once(work) for _ in range(repeats))


def best_rates(work: dict[str, Callable[[], int]], rounds: int) -> dict[str, float]:
    """Tokens per second of each piece of work, the best of some rounds."""
    rates = dict.fromkeys(work, 0.0)
    for _ in range(rounds):
        for name, run in work.items():
            began = time.perf_counter()
            tokens = run()
            rates[name] = max(rates[name], tokens / (time.perf_counter() - began))
    return rates


def in_turn(work: Callable[[], T], against: Callable[[], T], pairs: int) -> list[tuple[T, T]]:
    """What either returns, pair by pair.

    The order changes from pair to pair, so that a machine that slows down or speeds up favours neither.
    """
    found = []
    for pair in range(pairs):
        if pair % 2:
            first = work()
            found.append((first, against()))
        else:
            last = against()
            found.append((work(), last))
    return found


def paired_ratio(
    work: Callable[[], Any],
    against: Callable[[], Any],
    pairs: int,
    once: Callable[[Callable[[], Any]], float] | None = None,
) -> tuple[float, float, float, float, float]:
    """Median seconds of either, done in turn, and the median of the pairs' ratios with a 95 % bootstrap interval.

    ``once`` does one piece of work and tells its seconds; by default those on the clock.
    """
    measured = once or _once
    return median_ratio(np.array(in_turn(lambda: measured(work), lambda: measured(against), pairs)))


def median_ratio(times: Float[np.ndarray, "pairs 2"]) -> tuple[float, float, float, float, float]:
    """Medians of both columns, and the median of their ratios with a 95 % bootstrap interval."""
    first, second = np.median(times, axis=0)
    return float(first), float(second), *_median(times[:, 0] / times[:, 1])


def median_difference(times: Float[np.ndarray, "pairs 2"]) -> tuple[float, float, float]:
    """The median of what the first of each pair takes longer, with a 95 % bootstrap interval."""
    return _median(times[:, 0] - times[:, 1])


def _median(values: Float[np.ndarray, " pairs"]) -> tuple[float, float, float]:
    resampled = np.random.default_rng(0).choice(values, (2000, len(values)))
    low, high = np.quantile(np.median(resampled, axis=1), (0.025, 0.975))
    return float(np.median(values)), float(low), float(high)


def _once(work: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    began = clock()
    work()
    return clock() - began


def processor_seconds(work: Callable[[], object]) -> float:
    """What ``work`` takes of this process' threads together, which a machine that others use changes less."""
    return _once(work, time.process_time)
