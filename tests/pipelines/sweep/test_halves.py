import numpy as np
import pytest

from pipelines.statements.labelled import LabelledStatements
from pipelines.sweep.halves import able_to_calibrate, calibration_halves, require_halves
from pipelines.sweep.protocol import FittingProtocol
from pipelines.vectors.methods import fitting_rows
from registry.errors import InvalidInput


def statements(n_groups, rows=6):
    labels, groups = np.tile([True, False], n_groups * rows // 2), np.repeat(np.arange(n_groups), rows)
    texts = tuple(f"statement {number}" for number in range(len(groups)))
    return LabelledStatements("toxicity", texts, labels, groups, "small.csv")


def test_fitted_rows_are_in_neither_half():
    given = statements(40)
    halves = [set(half.texts) for half in calibration_halves(given, FittingProtocol())]
    fitted = {given.texts[row] for row in np.flatnonzero(fitting_rows(given, FittingProtocol()))}
    assert not halves[0] & halves[1]
    assert not fitted & (halves[0] | halves[1])
    assert fitted | halves[0] | halves[1] == set(given.texts)


def test_a_half_of_one_group_is_refused():
    with pytest.raises(InvalidInput, match=r"small.csv leaves 1 group of a class .* at least 20 groups"):
        calibration_halves(statements(10), FittingProtocol())
    calibration_halves(statements(20), FittingProtocol())


def test_the_dimensions_that_can_be_calibrated_are_named():
    given = {"humility": statements(10), "toxicity": statements(20)}
    assert able_to_calibrate(given) == ["toxicity"]
    with pytest.raises(InvalidInput, match=r"20 groups; or calibrate the others: dimensions=toxicity$"):
        require_halves(given)
    with pytest.raises(InvalidInput, match=r"20 groups$"):
        require_halves({"humility": statements(10)})
    require_halves({"toxicity": statements(20)})
