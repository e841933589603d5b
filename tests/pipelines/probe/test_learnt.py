"""Learnt statements: from when on, by which layer, and beside what control."""

import numpy as np
import pytest

from pipelines.probe.learnt import NEVER, learnt_at, learnt_table
from pipelines.probe.selection import Selection
from pipelines.statements.labelled import LabelledStatements
from registry.checkpoints import INIT, INIT_STEP
from tests.pipelines.probe.units import PROTOCOL, unit


def test_a_statement_is_learnt_when_it_stays_right():
    right = np.array([[1, 0, 1, 0, 0], [1, 1, 0, 0, 1], [1, 1, 1, 1, 0]], bool)
    assert learnt_at(right).tolist() == [0, 1, 2, 2, -1]


@pytest.fixture(scope="module")
def statements():
    texts = tuple(f"statement {number}" for number in range(80))
    return LabelledStatements("toxicity", texts, np.tile([True, False], 40), np.arange(80) // 2, "small.csv")


def hidden(statements, strength):
    """Two layers: noise, and noise with the label in its first column."""
    noise = np.random.default_rng(3).normal(size=(2, statements.n, 4))
    noise[1, :, 0] += strength * np.where(statements.labels, 1, -1)
    return noise


def test_statements_are_dated_by_the_best_layer_beside_random_initialisation(statements):
    initial = unit(statements, hidden(statements, 0), INIT_STEP, revision=INIT)
    trained = [unit(statements, hidden(statements, strength), step) for step, strength in ((0, 0), (8, 0), (64, 9))]
    trained.append(unit(statements, hidden(statements, 9), 65, weights="64"))
    given = {"toxicity": statements}
    selection = Selection.of([initial, *trained], given, PROTOCOL)
    table = learnt_table(selection, given, PROTOCOL)
    assert len(table) == 80 and set(table["layer"]) == {1}
    assert table["statement"].tolist() == list(statements.texts)
    assert table["trustworthy"].tolist() == statements.labels.tolist()
    assert NEVER not in set(table["learnt"])
    late = table[table["right_share"] < 0.5]
    assert len(late) > 20 and set(late["learnt"]) == {"step 64"} and set(late["revision"]) == {"step64"}
    assert 0.25 < table["random_init"].mean() < 0.75
    assert set(table["right_share"].round(2)) <= {0.33, 0.67, 1.0}  # of three: equal weights count once
    worst = learnt_table(Selection.of([initial, *trained[:2]], given, PROTOCOL), given, PROTOCOL)
    unlearnt = worst[worst["learnt"] == NEVER]
    assert len(unlearnt) and unlearnt["step"].isna().all()
