"""The MLflow flavor as a directory on disk; the stores' tests log it."""

import ast
import dataclasses
import json

import mlflow
import numpy as np
import pandas as pd
import pytest
import yaml
from fastapi.testclient import TestClient
from mlflow.pyfunc import scoring_server

from registry import flavor
from registry.errors import CorruptFile, Mismatch
from registry.serialization import LARGEST_FILE_BYTES
from registry.vectors import Direction, Lineage, LinearProbe, SteeringVector

LINEAGE = Lineage("tiny", "models:/ckpt.tiny/2", 64, "step64", "ab", "cd", "packaged", "mass-mean", "r1", "c1", 80)
VECTOR = SteeringVector.at_layer("toxicity", np.array([0.6, 0.8], np.float32), 2.0, 1, LINEAGE, 3.0, 0.5)
PROBE = LinearProbe("toxicity", 1, np.array([1.0, 2.0], np.float32), 0.1, LINEAGE)


@pytest.fixture
def saved(tmp_path):
    flavor.save_model(tmp_path / "model", VECTOR, PROBE)
    return tmp_path / "model"


def test_the_directory_holds_data_and_the_code_that_reads_it(saved):
    files = {str(path.relative_to(saved)) for path in saved.rglob("*") if path.is_file()}
    data = {"MLmodel", "vector.safetensors", "probe.safetensors", "input_example.json", "serving_input_example.json"}
    code = {f"code/steering_vector_4/{module}.py" for module in flavor.CODE}
    assert files == data | code | {"requirements.txt", "python_env.yaml"}


def test_the_carried_code_imports_nothing_that_is_not_carried(saved):
    for path in (saved / "code").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.level:
                assert node.module in flavor.CODE, path
            elif isinstance(node, ast.ImportFrom):
                assert node.module.split(".")[0] not in {"registry", "serving", "pipelines"}, path


def test_requirements_are_pinned(saved):
    lines = (saved / "requirements.txt").read_text().split()
    assert {line.split("==")[0] for line in lines} == set(flavor.REQUIREMENTS)
    assert f"mlflow=={mlflow.__version__}" in lines


def test_a_vector_and_its_probe_come_back(saved):
    vector, probe = flavor.load_model(saved, d_model=2), flavor.load_probe(saved, d_model=2)
    np.testing.assert_array_equal(vector.direction, VECTOR.direction)
    assert vector.lineage == probe.lineage == LINEAGE
    np.testing.assert_array_equal(probe.weights, PROBE.weights)


def test_a_vector_can_stand_without_a_probe(tmp_path):
    flavor.save_model(tmp_path / "model", VECTOR)
    assert flavor.load_probe(tmp_path / "model") is None


def test_the_mlmodel_file_says_what_it_is(saved):
    described = yaml.safe_load((saved / "MLmodel").read_text())
    assert described["flavors"]["steering_vector"] == {
        "vector": "vector.safetensors",
        "probe": "probe.safetensors",
        "dimension": "toxicity",
        "layer": 1,
    }
    signature = mlflow.models.Model.load(saved).signature
    assert signature.inputs.inputs[0].shape == (-1, 2)
    assert signature.inputs.input_names() == ["hidden_states"]
    example = mlflow.pyfunc.load_model(str(saved)).input_example
    assert example["hidden_states"].shape == (1, 2)
    assert [parameter.name for parameter in signature.params] == ["strength"]


@pytest.mark.parametrize("strength", [-1.5, 0.0, 2.0])
def test_the_pyfunc_adds_the_offset_to_hidden_states(saved, strength):
    hidden_states = np.arange(6, dtype=np.float32).reshape(3, 2)
    steered = mlflow.pyfunc.load_model(str(saved)).predict(hidden_states, params={"strength": strength})
    np.testing.assert_allclose(steered, hidden_states + strength * 2.0 * VECTOR.direction, rtol=1e-6)


def test_hidden_states_of_several_layers_name_theirs(tmp_path):
    units = ((1, [0.6, 0.8]), (4, [1.0, 0.0]))
    directions = (Direction(layer, np.array(unit, np.float32), 2.0, 3.0, 0.5) for layer, unit in units)
    flavor.save_model(tmp_path / "model", SteeringVector("toxicity", tuple(directions), LINEAGE), PROBE)
    described = yaml.safe_load((tmp_path / "model" / "MLmodel").read_text())
    assert described["flavors"]["steering_vector"]["layer"] == "1,4"
    model = mlflow.pyfunc.load_model(str(tmp_path / "model"))
    for layer, unit in units:
        steered = model.predict(np.zeros((1, 2), np.float32), params={"strength": 1.5, "layer": layer})
        np.testing.assert_allclose(steered, [3.0 * np.array(unit)], rtol=1e-6)
    for params in ({}, {"layer": 2}):
        with pytest.raises(mlflow.exceptions.MlflowException, match="steers layers 1,4: name the layer of the hidden"):
            model.predict(np.zeros((1, 2), np.float32), params=params)


@pytest.mark.parametrize(
    "data",
    [
        {"hidden_states": np.ones((2, 2), np.float32)},
        pd.DataFrame(np.ones((2, 2))),
        pd.DataFrame({"hidden_states": [[1.0, 1.0], [1.0, 1.0]]}),
        [[1, 1], [1, 1]],
    ],
    ids=["named", "frame of numbers", "frame of lists", "lists"],
)
def test_hidden_states_are_taken_in_every_form(saved, data):
    steered = mlflow.pyfunc.load_model(str(saved)).predict(data, params={"strength": 0.5})
    np.testing.assert_allclose(steered, 1 + VECTOR.direction * np.ones((2, 1)), rtol=1e-6)
    assert steered.dtype == np.float32


@pytest.mark.parametrize(
    "data",
    [np.zeros((1, 3)), np.zeros(2), [[1], [1, 2]], {"x": 1}, None, pd.DataFrame({"a": ["x"], "b": ["y"]})],
    ids=["width", "one axis", "ragged", "another name", "nothing", "two columns of text"],
)
def test_other_input_is_refused_with_the_shape_wanted(saved, data):
    with pytest.raises(mlflow.exceptions.MlflowException, match=r"give `hidden_states`, float32 \[n, 2\], or texts"):
        mlflow.pyfunc.load_model(str(saved)).predict(data)


def test_mlflows_scoring_server_answers_and_says_what_is_wrong(saved):
    client = TestClient(scoring_server.init(mlflow.pyfunc.load_model(str(saved))))
    example = json.loads((saved / "serving_input_example.json").read_text())
    answer = client.post("/invocations", json={**example, "params": {"strength": 0.5}})
    np.testing.assert_allclose(answer.json()["predictions"], [VECTOR.direction], rtol=1e-6)
    refused = client.post("/invocations", json={"inputs": [[0, 0, 0]]})
    assert refused.status_code == 400
    assert "give `hidden_states`, float32 [n, 2], or texts" in refused.json()["message"]


def test_texts_without_a_probe_are_refused(tmp_path):
    flavor.save_model(tmp_path / "model", VECTOR)
    with pytest.raises(mlflow.exceptions.MlflowException, match="no probe to score texts with"):
        mlflow.pyfunc.load_model(str(tmp_path / "model")).predict(["a text"])


def test_missing_wide_and_large_files_are_refused(saved):
    with pytest.raises(Mismatch, match=r"\(2,\).*576"):
        flavor.load_probe(saved, d_model=576)
    with (saved / "vector.safetensors").open("r+b") as file:
        file.truncate(LARGEST_FILE_BYTES + 1)
    with pytest.raises(CorruptFile, match=str(LARGEST_FILE_BYTES)):
        flavor.load_model(saved)
    (saved / "vector.safetensors").unlink()
    with pytest.raises(CorruptFile, match=r"no vector\.safetensors"):
        flavor.load_model(saved)


def test_a_probe_of_another_vector_is_not_saved_beside_it(tmp_path):
    with pytest.raises(Mismatch, match=r"layer 2.*layer 1"):
        flavor.save_model(tmp_path / "model", VECTOR, dataclasses.replace(PROBE, layer=2))
