import numpy as np
import pytest

from pipelines.statements.labelled import LabelledStatements
from pipelines.sweep.folds import cross_validation
from registry.errors import InvalidInput


def with_split(split, groups=None, labels=None):
    n = len(split)
    groups = np.arange(n) // 2 if groups is None else np.array(groups)
    labels = np.tile([True, False], n // 2) if labels is None else np.array(labels, bool)
    return LabelledStatements("toxicity", tuple(f"t{row}" for row in range(n)), labels, groups, "file:x", tuple(split))


def test_a_users_split_is_kept():
    splits = cross_validation(with_split(["train"] * 40 + ["test"] * 10), (0, 1))
    np.testing.assert_array_equal(splits.test_rows, np.arange(40, 50))
    assert splits.tested == (0,)
    assert set(splits.folds[0, :40]) == {1, 2, 3, 4}


@pytest.mark.parametrize(
    ("statements", "words"),
    [
        (
            with_split(["train"] * 18 + ["test"] * 2, range(20), [True, False] * 9 + [True, True]),
            "test part of file:x holds one class only",
        ),
    ],
)
def test_a_split_that_cannot_be_believed_is_refused(statements, words):
    with pytest.raises(InvalidInput, match=words):
        cross_validation(statements, (0,))
