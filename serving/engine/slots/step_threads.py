"""Step threads: how many take a step of few tokens; others are tried now and then, since a machine's load changes.

Threads that wait for one another lose more on a busy machine than they gain on an idle one.
"""

from collections.abc import Sequence

APART, SOON = 30, 4
"""Steps from one trial to the next, and to the next of what was faster."""
FEWER, MORE = 0.75, 0.9
"""Of the time of the steps before and after, what a trial takes at most to count as faster: fewer threads are chosen
where others stand in the way of more, and not by chance.
"""
NEEDED = 2
"""So many such trials in a row change what is chosen."""


class StepThreads:
    """For one kind of steps: ``chosen`` of ``choices`` to begin with. ``next`` is asked before every step, and ``took``
    is told after it.
    """

    def __init__(self, choices: Sequence[int], chosen: int) -> None:
        self.chosen = self._first = chosen
        self._choices = sorted(choices)
        self._until, self._failed, self._faster = APART, 0, 0
        """Steps until the next trial, trials that failed, and those in a row that did not."""
        self._latest: list[tuple[int, float]] = []
        """Tokens and seconds of the latest three steps."""

    @property
    def is_lowered(self) -> bool:
        """Whether fewer are chosen than at first, as on a machine that has become busy."""
        return self.chosen < self._first

    def next(self) -> int:
        return self._candidate if self._until == 0 else self.chosen

    def took(self, tokens: int, seconds: float) -> None:
        if len(self._choices) == 1:
            return
        self._latest = [*self._latest[-2:], (tokens, seconds)]
        self._until -= 1
        if self._until == -2:  # the step after the trial is over
            self._judge()

    @property
    def _candidate(self) -> int:
        """In turn the next fewer and the next more."""
        place = self._choices.index(self.chosen)
        others = [self._choices[other] for other in (place - 1, place + 1) if 0 <= other < len(self._choices)]
        return others[self._failed % len(others)]

    def _judge(self) -> None:
        before, trial, after = self._latest
        alike = before[0] == trial[0] == after[0]
        gain = FEWER if self._candidate < self.chosen else MORE
        if alike and trial[1] <= gain * (before[1] + after[1]) / 2:
            self._faster, self._until = self._faster + 1, SOON
            if self._faster == NEEDED:
                self.chosen, self._faster = self._candidate, 0
        else:
            self._failed, self._faster, self._until = self._failed + 1, 0, APART
