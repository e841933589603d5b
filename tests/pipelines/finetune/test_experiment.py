"""Fine-tuning as a user runs it, on a tiny series and a real tracking store."""

import shutil
from pathlib import Path

import mlflow
import numpy as np
import pytest

from pipelines.cli.command import run_command
from pipelines.finetune.__main__ import main
from pipelines.finetune.experiment import trustworthy_texts
from pipelines.statements.labelled import LabelledStatements
from pipelines.sweep.folds import split_statements
from pipelines.sweep.protocol import FittingProtocol
from registry.checkpoint_store import CheckpointStore
from serving.model.sources import find_series
from tests.pipelines.described import described_picture
from tests.pipelines.pasted import next_parameters
from tests.small_statements import write_statements


@pytest.fixture
def arguments(series_directory, tmp_path, tracking, cache):
    data = f"toxicity={write_statements(tmp_path)}"
    return ["--model", str(series_directory), "--data", data, "--dimensions", "toxicity", "--learning-rate", "0.01"]


@pytest.mark.draws
def test_the_checkpoint_is_registered_beside_its_parent_and_made_once(arguments, capsys, monkeypatch):
    assert run_command(main, [*arguments, "--method", "lora", "--checkpoint", "100", "--device", "cpu"]) == 0
    (run,) = mlflow.search_runs(search_all_experiments=True, output_format="list")
    directory = Path(run.data.tags["directory"])
    assert directory.name == "mini-toxicity-lora"
    assert find_series(str(directory)).model == "mini-toxicity-lora"
    store = CheckpointStore()
    (made,) = store.list("mini-toxicity-lora")
    assert run.data.tags["finetuned_checkpoint"] == made.uri
    assert run.data.tags["parent_checkpoint"] == store.get("mini", 100).uri
    assert made.tags["weights_digest"] != store.get("mini", 100).tags["weights_digest"]
    client = mlflow.MlflowClient()
    curve = client.get_metric_history(run.info.run_id, "loss/validation")
    assert [point.step for point in curve] == [0, 1, 2, 3]
    assert curve[-1].value < curve[0].value
    assert {artifact.path for artifact in client.list_artifacts(run.info.run_id)} == {
        "description",
        "figures",
        "finetuning.json",
        "quality.csv",
        "quality.md",
        "series.csv",
        "series.md",
    }
    assert described_picture(run.info.run_id).name == "loss.png"
    # Without a calibrated vector there is nothing to compare it with.
    given = next_parameters(capsys.readouterr().out, "calibrate")
    assert (given["model"], given["checkpoint"], given["device"]) == (arguments[1], "100", "cpu")
    changed = (directory / "model.safetensors").stat().st_mtime_ns
    monkeypatch.setattr("pipelines.finetune.experiment.is_calibrated", lambda name, _: name == "mini")
    assert run_command(main, [*arguments, "--method", "lora"]) == 0
    assert next_parameters(capsys.readouterr().out, "evaluate")["finetuned"] == str(directory)
    assert (directory / "model.safetensors").stat().st_mtime_ns == changed
    assert len(store.list("mini-toxicity-lora")) == 1


def test_a_mended_tokenizer_makes_another(arguments, series_directory, tmp_path, cache):
    copy = shutil.copytree(series_directory / "step_000010", tmp_path / "mended")
    given = [str(copy) if argument == str(series_directory) else argument for argument in arguments]
    assert run_command(main, [*given, "--epochs", "1"]) == 0
    path = copy / "tokenizer_config.json"
    path.write_text(path.read_text() + " ")
    assert run_command(main, [*given, "--epochs", "1"]) == 0
    assert len(list((cache / "finetuned").iterdir())) == 2


def test_only_trustworthy_fitting_statements_are_trained_on():
    n = 400
    texts = tuple(f"statement {number}" for number in range(n))
    given = LabelledStatements("toxicity", texts, np.arange(n) % 2 == 0, np.arange(n) // 2, "test")
    training, validation = trustworthy_texts({"toxicity": given}, FittingProtocol())
    held_out = {texts[row] for row in np.flatnonzero(split_statements(given, FittingProtocol()).folds[0] == 0)}
    trustworthy = {texts[row] for row in np.flatnonzero(given.labels)}
    assert held_out.isdisjoint({*training, *validation})
    assert {*training, *validation} == trustworthy - held_out
    assert len(training) == 3 * len(validation)


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--method", "half"], "unknown method 'half'"),
        (["--learning-rate", "fast"], "`learning_rate` is 'fast'; give auto or a number"),
        (["--checkpoint", "all"], "checkpoint 'all' selects 3 trained checkpoints"),
    ],
)
def test_bad_input_is_one_sentence(arguments, more, sentence, capsys):
    assert run_command(main, [*arguments, *more]) == 2
    assert sentence in capsys.readouterr().err
