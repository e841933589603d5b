"""The printed phases: what cannot be told is a dash, not a number."""

import numpy as np

from pipelines.estimators.phases import two_phases
from pipelines.information.summary import phase_cells


def test_what_cannot_be_told_is_a_dash():
    short = two_phases(range(4), np.array([[1.0, 3, 2, 1], [1, 2, 3, 1]]))
    assert not short.can_be_told and np.isinf(short.detectable_fall)
    assert phase_cells(short).split()[-2:] == ["-", "-"]
    steps = np.arange(12)
    long = two_phases(steps.tolist(), np.stack([np.minimum(steps, 14 - steps), np.minimum(steps, 15 - steps)]) / 10)
    assert phase_cells(long).split()[-1] == f"{long.p_adjusted:.3f}"
