"""Threads of a step follow the machine's load, and are not led astray by steps of unequal work."""

import pytest

from serving.engine.slots import step_threads
from serving.engine.slots.step_threads import APART, StepThreads
from tests.mutants import mutant

IDLE, BUSY = {1: 5.0, 2: 4.0, 4: 3.0}, {1: 5.0, 2: 8.0, 4: 16.0}
"""Milliseconds of a step by its threads."""


def run(threads, took, steps, tokens=lambda _: 16):
    """The threads of each step, whose milliseconds ``took`` says for a step of 16 tokens."""
    used = []
    for step in range(steps):
        used.append(threads.next())
        threads.took(tokens(step), took[used[-1]] * tokens(step) / 16)
    return used


def test_the_load_of_the_machine_decides(module=step_threads):
    threads = module.StepThreads([4, 2, 1], 4)
    run(threads, BUSY, 6 * APART)
    assert threads.chosen == 1 and threads.is_lowered
    run(threads, IDLE, 6 * APART)
    assert threads.chosen == 4 and not threads.is_lowered


def test_what_is_fastest_is_kept_and_trials_are_rare():
    threads = StepThreads([2, 1], 2)
    used = run(threads, IDLE, 20 * APART)
    assert threads.chosen == 2 and 15 <= used.count(1) <= 20


def test_a_little_faster_is_no_reason_to_change():
    for chosen, took in ((1, {1: 1.0, 2: 0.95}), (2, {1: 0.8, 2: 1.0})):
        threads = StepThreads([2, 1], chosen)
        run(threads, took, 20 * APART)
        assert threads.chosen == chosen


def test_steps_of_unequal_work_tell_nothing():
    threads = StepThreads([2, 1], 2)
    run(threads, IDLE, 20 * APART, tokens=lambda step: 16 if step % 2 else 5)
    assert threads.chosen == 2


def test_one_fast_step_alone_changes_nothing():
    threads = StepThreads([2, 1], 2)
    for n in range(20 * APART):
        quick = threads.next() == 1 and n // APART % 2
        threads.took(16, 1.0 if quick else IDLE[threads.next()])
        if quick:
            run(threads, IDLE, 2 * APART)
    assert threads.chosen == 2


def test_where_there_is_no_choice_nothing_is_tried():
    assert set(run(StepThreads([1], 1), IDLE, 5 * APART)) == {1}


@pytest.mark.parametrize(
    ("passage", "replacement"),
    [
        ("alike and trial[1] <=", "trial[1] <="),
        ("gain * (before[1] + after[1]) / 2", "before[1] + after[1]"),
        ("FEWER if self._candidate < self.chosen else MORE", "MORE"),
        ("self._failed + 1, 0, APART", "self._failed, 0, APART"),
        ("self.chosen, self._faster = self._candidate, 0", "self._faster = 0"),
    ],
)
def test_a_change_of_a_rule_is_noticed(passage, replacement):
    def holds(module):
        try:
            test_the_load_of_the_machine_decides(module)
        except AssertionError:
            return False
        hardly = module.StepThreads([2, 1], 2)
        run(hardly, {1: 0.8, 2: 1.0}, 20 * APART)
        if hardly.chosen != 2:
            return False
        uneven = module.StepThreads([2, 1], 2)
        run(uneven, IDLE, 20 * APART, tokens=lambda step: 16 if step % 2 else 5)
        return uneven.chosen == 2

    assert holds(step_threads)
    with mutant(step_threads, passage, replacement) as changed:
        assert not holds(changed)
