import numpy as np
import pytest

from pipelines.estimators.linear_probe import probe_layer
from pipelines.probe.selection import Selection, select_checkpoint, select_layer
from pipelines.statements.labelled import LabelledStatements
from pipelines.sweep.folds import split_statements
from pipelines.sweep.protocol import FittingProtocol
from tests.pipelines.probe.units import PROTOCOL, unit


@pytest.fixture(scope="module")
def statements():
    texts = tuple(f"statement {number}" for number in range(240))
    return LabelledStatements("toxicity", texts, np.tile([True, False], 120), np.arange(240) // 2, "small.csv")


def noise(rng, layers=8):
    return [rng.normal(size=(240, 8)) for _ in range(layers)]


def test_a_flip_of_the_outer_fold_leaves_its_own_choice(statements, rng):
    hidden, folds = noise(rng), split_statements(statements, PROTOCOL).folds
    flipped = statements.labels ^ (folds[0] == 2)
    for features in hidden:
        before, after = (
            probe_layer(features.astype(np.float32), labels, folds)[0].validation_accuracies
            for labels in (statements.labels, flipped)
        )
        assert before[2] == after[2]
    assert (np.array(before) != np.array(after)).any()


def test_the_selected_layer_is_told_from_the_best_looking_one(statements):
    reported, best = [], []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        found = [unit(statements, noise(rng), step) for step in (0, 1)]
        reported.append(select_checkpoint(found, statements, PROTOCOL).accuracy.value)
        best.append(max(score.accuracy.value for result in found for score in result.pooled))
    assert np.mean(reported) < 0.52 < np.mean(best)


def test_a_planted_layer_and_checkpoint_are_chosen(statements, rng):
    planted = noise(rng, 4)
    planted[3][:, 0] += 3 * statements.labels
    found = [unit(statements, noise(rng, 4), 0), unit(statements, planted, 1)]
    probe = select_checkpoint(found, statements, PROTOCOL)
    assert (probe.result.checkpoint.step, probe.layer, probe.agreement) == (1, 3, 1)
    assert probe.accuracy.value == select_layer(found[1], statements, PROTOCOL).accuracy.value
    assert probe.rule.startswith("checkpoint and layer chosen on an inner fold of each outer fold")


def test_the_papers_choice_is_named_as_such(statements, rng):
    protocol = FittingProtocol(protocol="paper")
    result = unit(statements, noise(rng, 4), protocol=protocol)
    probe = select_layer(result, statements, protocol)
    assert "chosen on the test rows, as in arXiv 2402.19465" in probe.rule
    assert probe.accuracy.value == max(score.accuracy.value for score in result.pooled[2:])


def test_only_deep_layers_are_candidates(statements, rng):
    planted = noise(rng, 4)
    planted[0][:, 0] += 3 * statements.labels
    assert select_layer(unit(statements, planted), statements, PROTOCOL).layer >= 2


def test_equal_weights_contend_once(statements, rng):
    hidden, initial = noise(rng, 2), noise(rng, 2)
    results = [
        unit(statements, initial, -1, revision="init"),
        unit(statements, hidden, 1, weights="same"),
        unit(statements, hidden, 2, weights="same"),
    ]
    selection = Selection.of(results, {"toxicity": statements}, PROTOCOL)
    assert selection.best["toxicity"].result.checkpoint.step == 1
    assert [probe.result.checkpoint.step for probe in selection.layers_of("toxicity")] == [1, 2]
