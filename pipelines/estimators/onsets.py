"""Onsets: the first step at which something holds, whether it holds from then on, and their median over series."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.stats import binom, norm

from pipelines.estimators.estimate import CONFIDENCE, Estimate

Lasting = Literal["yes", "no", "not shown", ""]


@dataclass(frozen=True)
class Onset:
    """The first step that a rule holds at."""

    step: int | None
    """``None`` for none of those measured."""
    lost: int | None = None
    """The first later step at which it has surely fallen back."""
    later: tuple[bool, ...] = ()
    """Whether the rule holds at each later step."""

    @property
    def lasts(self) -> Lasting:
        """Whether the rule holds at every later step; where it surely falls back, it does not. Empty without any."""
        if self.step is None or not self.later:
            return ""
        if self.lost is not None:
            return "no"
        return "yes" if all(self.later) else "not shown"

    def __str__(self) -> str:
        return step_text(self.step) + ("" if self.lost is None else f", lost at {self.lost:,}")


def step_text(step: int | None) -> str:
    return "never" if step is None else f"{step:,}"


def not_shown_to_last(named: Iterable[tuple[str, Onset]]) -> list[str]:
    """A line that names the onsets of which it cannot be told; none where it can of all."""
    unsure = [name for name, onset in named if onset.lasts == "not shown"]
    return [f"not shown to last: {', '.join(unsure)}"] if unsure else []


def onset_above(
    steps: Sequence[int], estimates: Sequence[Estimate], control: Estimate, comparisons: int | None = None
) -> Onset:
    """The first step that lies above the control, wrongly in at most 5 % of ``comparisons`` taken together.

    ``comparisons`` are the steps times the layers that are looked at; the steps alone by default (Bonferroni).
    """
    looked_at = comparisons or len(steps)
    return onset_of(steps, estimates, [surely_above(estimate, control, looked_at) for estimate in estimates])


def onset_of(steps: Sequence[int], estimates: Sequence[Estimate | None], holds: Sequence[bool]) -> Onset:
    """The first step at which the rule ``holds``, and whether it does from then on."""
    if not any(holds):
        return Onset(None)
    began, lost = list(holds).index(True), lost_after(estimates, holds)
    return Onset(steps[began], None if lost is None else steps[lost], tuple(holds[began + 1 :]))


def lost_after(estimates: Sequence[Estimate | None], holds: Sequence[bool]) -> int | None:
    """The place of the first checkpoint that has lost what begins where ``holds`` first says so; ``None`` for none.

    It is lost where it no longer holds and the estimate is surely below that of the onset. An onset is where an
    estimate happens to be high, so the level is that of all pairs of checkpoints: wrong in at most 5 % of curves that
    never fall, however the onset was chosen.
    """
    if not any(holds):
        return None
    began, pairs = list(holds).index(True), len(holds) * (len(holds) - 1) // 2
    first = estimates[began]
    for place in range(began + 1, len(holds)):
        here = estimates[place]
        if not holds[place] and first and here and surely_above(first, here, pairs):
            return place
    return None


def surely_above(estimate: Estimate, control: Estimate, comparisons: int) -> bool:
    """Whether ``estimate`` lies above ``control``, wrongly in at most 5 % of ``comparisons`` taken together."""
    quantile = norm.isf((1 - CONFIDENCE) / comparisons)
    half = np.hypot(estimate.value - estimate.low, control.high - control.value)
    return bool(estimate.value - control.value > half * quantile / norm.ppf((1 + CONFIDENCE) / 2))


@dataclass(frozen=True)
class MedianOnset:
    """The median of the onsets of ``n`` series; ``None`` is never."""

    step: int | None
    low: int | None
    high: int | None
    n: int
    confidence: float
    """Of the interval: 95 % or more, or less where so few series allow no more."""


def median_onset(steps: Sequence[int | None]) -> MedianOnset:
    """The lower median of onsets with its interval by order statistics, which assumes nothing of their distribution.

    The interval is the narrowest of 95 % or more, or else from the first to the last.
    """
    n = len(steps)
    ordered = sorted(steps, key=lambda step: np.inf if step is None else step)
    ranks = [rank for rank in range(1, n // 2 + 1) if _coverage(rank, n) >= CONFIDENCE]
    rank = max(ranks, default=1)
    return MedianOnset(ordered[(n - 1) // 2], ordered[rank - 1], ordered[n - rank], n, _coverage(rank, n))


def _coverage(rank: int, n: int) -> float:
    """How often the median lies between the values of this rank from below and from above."""
    return float(1 - 2 * binom.cdf(rank - 1, n, 0.5))
