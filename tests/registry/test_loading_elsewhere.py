"""A registered vector loaded from another directory, where this repository is not seen.

`make endurance` does it in a Python that has imported nothing before.
"""

import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest

from registry.checkpoint_store import CheckpointStore
from registry.checkpoints import Checkpoint
from registry.store import VectorStore
from registry.vectors import Lineage, LinearProbe, SteeringVector
from tests.conftest import new_store
from tests.forked import run_forked

PROGRAM = """
import json, os, sys
import mlflow, numpy as np
assert not any(name.split(".")[0] in ("registry", "serving", "pipelines") for name in sys.modules)
answers = {}
for name, request in json.loads(os.environ["REQUESTS"]).items():
    for tag, value in request["checkpoint_tags"].items():
        mlflow.MlflowClient().set_model_version_tag("ckpt.mini", "1", tag, value)
    model = mlflow.pyfunc.load_model("models:/steer.mini.toxicity@champion", model_config=request["model_config"])
    steered = model.predict(np.zeros((1, 16), np.float32), params={"strength": 1.5})
    try:
        probabilities = model.predict(request["texts"]).tolist()
    except Exception as error:
        probabilities = str(error)
    assert "registry" not in sys.modules
    answers[name] = {"steered": steered.tolist(), "probabilities": probabilities}
print(json.dumps(answers))
"""
TEXTS = ["the city of Paris is in France", "you are cruel"]
LAYER = 2  # the last: its output is not the normed state that transformers returns


@pytest.fixture(scope="module")
def model(series_directory):
    from serving.model.language_model import load

    return load(Checkpoint("mini", str(series_directory), "step_000010", 10), precision="float32")


@pytest.fixture(scope="module")
def other_weights(series_directory):
    return str(series_directory / "step_000100")


@dataclass(frozen=True)
class LoadedElsewhere:
    """What the champion with this probe answered to each request in a Python that does not see this repository."""

    probe: LinearProbe
    answers: dict[str, dict[str, Any]]


def forget_repository() -> None:
    """As where it never was: nothing of it is imported, and nothing of it can be."""
    for name in [name for name in sys.modules if name.split(".")[0] in ("registry", "serving", "pipelines", "tests")]:
        del sys.modules[name]
    sys.path[:] = [path for path in sys.path if path and not (Path(path) / "registry").exists()]


@pytest.fixture(scope="module")
def run_elsewhere() -> Callable[[Path], str]:
    """Runs ``PROGRAM`` in a directory and returns what it printed."""

    def run(directory: Path) -> str:
        def program() -> None:
            os.chdir(directory)
            forget_repository()
            exec(PROGRAM, {"__name__": "__main__"})

        ended = run_forked(program)
        assert ended.returncode == 0, ended.output
        return ended.output

    return run


@pytest.fixture(scope="module")
def loaded(model, series_directory, other_weights, empty_database, run_elsewhere, tmp_path_factory):
    root = tmp_path_factory.mktemp("elsewhere")
    with_kernel = shutil.copytree(series_directory / "step_000010", root / "kernel")
    configuration = json.loads((with_kernel / "config.json").read_text())
    (with_kernel / "config.json").write_text(json.dumps({**configuration, "attn_implementation": "evil/kernel"}))
    requests = {
        "as registered": requested(),
        "other weights": requested(language_model=other_weights),
        "a kernel in the configuration": requested(language_model=str(with_kernel)),
        "a missing model": {**requested(), "checkpoint_tags": {"repo": "packaged:mini"}},
    }
    with pytest.MonkeyPatch.context() as patch:
        new_store(empty_database, root, patch)
        probe = promoted_probe(model)
        (root / "elsewhere").mkdir()
        patch.setenv("REQUESTS", json.dumps(requests))
        printed = run_elsewhere(root / "elsewhere")
    return LoadedElsewhere(probe, json.loads(printed.splitlines()[-1]))


def requested(**model_config):
    return {"model_config": model_config, "texts": TEXTS, "checkpoint_tags": {}}


def promoted_probe(model):
    """The probe of a champion that is registered where MLflow points to."""
    direction = np.zeros(16, np.float32)
    direction[3] = 1
    checkpoint = CheckpointStore().register(model.checkpoint, model.weights_digest)
    with mlflow.start_run() as run:
        place = ("mini", checkpoint.uri, 10, "step_000010", model.weights_digest)
        lineage = Lineage(*place, "cd", "s", "mass-mean", run.info.run_id, "c", 8)
        vector = SteeringVector.at_layer("toxicity", direction, 2.0, LAYER, lineage, 3.0, 0.5)
        weights = np.random.default_rng(0).normal(size=16).astype(np.float32)
        probe = LinearProbe("toxicity", LAYER, weights, 0.1, lineage)
        registered = VectorStore().register(vector, probe, {}, unit_digest="u")
    VectorStore().promote(registered, reason="the only one")
    return probe


def test_a_champion_works_without_this_repository(loaded, model):
    from pipelines.model_io.activations import extract

    answer = loaded.answers["as registered"]
    np.testing.assert_allclose(answer["steered"], [[0, 0, 0, 3.0, *[0] * 12]])
    expected = loaded.probe.probability(extract(model, TEXTS, layers=[LAYER]).layer(LAYER))
    np.testing.assert_allclose(answer["probabilities"], expected, rtol=1e-4)


def test_texts_are_not_scored_by_other_weights(loaded, other_weights):
    answer = loaded.answers["other weights"]
    assert f"{other_weights} has" in answer["probabilities"]
    assert "the probe was fitted on weights" in answer["probabilities"]


def test_a_missing_model_is_refused_with_a_way_out(loaded):
    answer = loaded.answers["a missing model"]
    assert "mini at packaged:mini is not on this machine; give a directory" in answer["probabilities"]


def test_a_kernel_that_a_configuration_names_is_not_fetched(loaded):
    answer = loaded.answers["a kernel in the configuration"]
    assert np.shape(answer["probabilities"]) == (len(TEXTS),), answer["probabilities"]
