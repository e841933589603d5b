"""A registered vector loaded from another directory, by a Python that does not see this repository."""

import json
import shutil
import subprocess
import sys

import mlflow
import numpy as np
import pytest

from registry.checkpoint_store import CheckpointStore
from registry.checkpoints import Checkpoint
from registry.store import VectorStore
from registry.vectors import Lineage, LinearProbe, SteeringVector

PROGRAM = """
import json, sys
import mlflow, numpy as np
assert not any(name.split(".")[0] in ("registry", "serving", "pipelines") for name in sys.modules)
request = json.loads(sys.argv[1])
model = mlflow.pyfunc.load_model("models:/steer.mini.toxicity@champion", model_config=request["model_config"])
steered = model.predict(np.zeros((1, 16), np.float32), params={"strength": 1.5})
try:
    probabilities = model.predict(request["texts"]).tolist()
except Exception as error:
    probabilities = str(error)
assert "registry" not in sys.modules
print(json.dumps({"steered": steered.tolist(), "probabilities": probabilities}))
"""
TEXTS = ["the city of Paris is in France", "you are cruel"]
LAYER = 2  # the last: its output is not the normed state that transformers returns


@pytest.fixture
def model(series_directory):
    from serving.model.language_model import load

    return load(Checkpoint("mini", str(series_directory), "step_000010", 10), precision="float32")


@pytest.fixture
def champion(tracking, model, rng):
    direction = np.zeros(16, np.float32)
    direction[3] = 1
    checkpoint = CheckpointStore().register(model.checkpoint, model.weights_digest)
    with mlflow.start_run() as run:
        lineage = Lineage(
            "mini",
            checkpoint.uri,
            10,
            "step_000010",
            model.weights_digest,
            "cd",
            "s",
            "mass-mean",
            run.info.run_id,
            "c",
            8,
        )
        vector = SteeringVector.at_layer("toxicity", direction, 2.0, LAYER, lineage, 3.0, 0.5)
        probe = LinearProbe("toxicity", LAYER, rng.normal(size=16).astype(np.float32), 0.1, lineage)
        registered = VectorStore().register(vector, probe, {}, unit_digest="u")
    VectorStore().promote(registered, reason="the only one")
    return probe


def elsewhere(tmp_path, **request):
    (tmp_path / "elsewhere").mkdir()
    finished = subprocess.run(
        [sys.executable, "-I", "-c", PROGRAM, json.dumps({"model_config": {}, "texts": TEXTS, **request})],
        cwd=tmp_path / "elsewhere",
        capture_output=True,
        text=True,
    )
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout.splitlines()[-1])


def test_a_champion_works_without_this_repository(champion, model, tmp_path):
    from pipelines.model_io.activations import extract

    answer = elsewhere(tmp_path)
    np.testing.assert_allclose(answer["steered"], [[0, 0, 0, 3.0, *[0] * 12]])
    expected = champion.probability(extract(model, TEXTS, layers=[LAYER]).layer(LAYER))
    np.testing.assert_allclose(answer["probabilities"], expected, rtol=1e-4)


def test_texts_are_not_scored_by_other_weights(champion, series_directory, tmp_path):
    other = str(series_directory / "step_000100")
    answer = elsewhere(tmp_path, model_config={"language_model": other})
    assert f"{other} has" in answer["probabilities"]
    assert "the probe was fitted on weights" in answer["probabilities"]


def test_a_missing_model_is_refused_with_a_way_out(champion, tmp_path):
    mlflow.MlflowClient().set_model_version_tag("ckpt.mini", "1", "repo", "packaged:mini")
    answer = elsewhere(tmp_path)
    assert "mini at packaged:mini is not on this machine; give a directory" in answer["probabilities"]


def test_a_kernel_that_a_configuration_names_is_not_fetched(champion, series_directory, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(series_directory / "step_000010", copy)
    configuration = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**configuration, "attn_implementation": "evil/kernel"}))
    answer = elsewhere(tmp_path, model_config={"language_model": str(copy)})
    assert np.shape(answer["probabilities"]) == (len(TEXTS),), answer["probabilities"]
