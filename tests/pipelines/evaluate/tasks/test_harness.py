"""Tasks of the lm-evaluation-harness, from files here: `make test-extras`."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from pipelines.evaluate.suite import measure_tasks
from pipelines.evaluate.tasks.harness import HARNESS, harness_tasks
from pipelines.evaluate.tasks.task import TaskReading
from registry.errors import InvalidInput, Unavailable
from serving.model.language_model import load
from serving.model.sources import find_series

ROOT = Path(__file__).parents[4]
needs_harness = pytest.mark.skipif(
    importlib.util.find_spec("lm_eval") is None, reason="lm-evaluation-harness is not installed: make test-extras"
)
pytestmark = pytest.mark.filterwarnings("ignore")
"""The harness and what it imports warn on their own account."""


@pytest.fixture
def sums(tmp_path, monkeypatch):
    """A task whose right answer is the shortest of three, and of which the last item is never asked for."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "datasets"))
    rows = [
        {"q": f"{a} plus {b} is", "c": ["four", "a five", "a long six"], "a": a + b - 4}
        for a, b in ((2, 2), (2, 3), (3, 3))
    ]
    (tmp_path / "rows.json").write_text("\n".join(map(json.dumps, rows)))
    content = {
        "task": "sums", "dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(tmp_path / "rows.json")}},
        "output_type": "multiple_choice", "test_split": "test", "doc_to_text": "{{q}}", "doc_to_choice": "{{c}}",
        "doc_to_target": "a",
        "metric_list": [
            {"metric": name, "aggregation": "mean", "higher_is_better": True} for name in ("acc", "acc_norm")
        ],
    }  # fmt: skip
    (tmp_path / "sums.yaml").write_text(json.dumps(content))
    return tmp_path / "sums.yaml"


@needs_harness
def test_scores_are_the_harness_own_of_our_likelihoods(sums):
    (task,) = harness_tasks([str(sums)], 0)
    assert task.texts[:2] == ("2 plus 2 is four", "2 plus 2 is a five")
    assert task.texts[9] == "2 plus 2 is"
    contexts = np.full(9, -5.0)
    # In nats of the answers alone: the first is likeliest of item 0, the last of items 1 and 2.
    answers = np.array([-1, -2, -3, -3, -2, -1, -3, -2, -1.0])
    reading = TaskReading(np.concatenate([contexts + answers, contexts]), np.ones(18, np.int64))
    accuracy, normed = task.measure(reading)
    assert (accuracy.metric, normed.metric) == ("sums acc", "sums acc_norm")
    np.testing.assert_array_equal(accuracy.columns[:, 0], [1, 0, 1])
    # By letters: -1/4, -2/6, -3/10 and -3/4, -2/6, -1/10.
    np.testing.assert_array_equal(normed.columns[:, 0], [1, 0, 1])
    assert accuracy.wanted == 1
    assert accuracy.answers == ("0", "2", "2")


@needs_harness
def test_a_model_is_read_and_the_limit_is_kept(sums, series_directory):
    (task,) = harness_tasks([str(sums)], 2)
    assert len(task.texts) == 12
    model = load(find_series(str(series_directory), name="mini").checkpoints[-1])
    accuracy, _ = measure_tasks(model, [task])
    assert accuracy.n == 2
    assert set(accuracy.columns[:, 0]) <= {0.0, 1.0}


@needs_harness
def test_what_cannot_be_asked_is_one_sentence(sums):
    with pytest.raises(InvalidInput, match="the harness knows no task 'nonsense.yaml'"):
        harness_tasks(["nonsense.yaml"], 1)
    sums.write_text(sums.read_text().replace("multiple_choice", "generate_until"))
    with pytest.raises(InvalidInput, match="the task sums is generate_until"):
        harness_tasks([str(sums)], 1)


def test_without_the_harness_the_pip_command_is_named(monkeypatch):
    assert harness_tasks([], 5) == ()
    monkeypatch.setattr("pipelines.evaluate.tasks.harness.find_spec", lambda _: None)
    with pytest.raises(Unavailable, match=f"pip install lm-eval=={HARNESS}"):
        harness_tasks(["arc_easy"], 5)
    assert f'harness = ["lm-eval=={HARNESS}"]' in (ROOT / "pyproject.toml").read_text()
