"""Vectors as a user makes them, on a tiny series and a real tracking store."""

import dataclasses
import shutil
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from safetensors.torch import load_file, save_file

from pipelines.cli.command import run_command
from pipelines.estimators.mass_mean import fit_mass_mean
from pipelines.model_io.activations import extract
from pipelines.probe.__main__ import main as probe
from pipelines.statements.choice import choose_dimensions
from pipelines.statements.sources import load_statements
from pipelines.sweep.folds import split_statements
from pipelines.sweep.protocol import FittingProtocol
from pipelines.vectors.__main__ import main
from pipelines.vectors.methods import CONTROLS, METHODS
from registry.checkpoint_store import CheckpointStore
from registry.errors import Mismatch, NotFound
from registry.store import VectorStore
from serving.model.language_model import load
from serving.model.sources import find_series
from serving.steering.compatibility import require_fits
from tests.conftest import tiny_llama
from tests.pipelines.pasted import next_parameters
from tests.small_statements import write_statements


@pytest.fixture
def arguments(series_directory, tmp_path, tracking, cache):
    data = f"toxicity={write_statements(tmp_path)}"
    return ["--model", str(series_directory), "--data", data, "--dimensions", "toxicity", "--seeds", "1"]


@pytest.fixture(autouse=True)
def short_prose(monkeypatch):
    """Sentences that the word tokenizer knows; the packaged ones are all unknown words to it."""
    sentences = [f"the city of {place} is in {country}" for place in ("Paris", "Peru") for country in ("France", "a")]
    monkeypatch.setattr("pipelines.vectors.experiment.background_prose", lambda: sentences)


def artifacts(run):
    return {artifact.path for artifact in mlflow.MlflowClient().list_artifacts(run.info.run_id)}


def by_method():
    return {version.tags["method"]: version for version in VectorStore().list("mini", "toxicity")}


@pytest.mark.draws
def test_every_method_and_control_is_registered_with_its_lineage(arguments, series_directory, capsys):
    assert run_command(main, [*arguments, "--layers", "2"]) == 0
    found, store = by_method(), VectorStore()
    assert set(found) == {*METHODS, "random", "shuffled"}
    checkpoint = CheckpointStore().get("mini", 100)
    (run,) = mlflow.search_runs(search_all_experiments=True, output_format="list")
    model = load(find_series(str(series_directory)).select("last")[0])
    for method, version in found.items():
        vector = store.load(version, d_model=model.d_model)
        assert vector.lineage.method == method
        assert version.layer == 2
        assert version.checkpoint_uri == checkpoint.uri
        assert version.run_id == run.info.run_id
        assert vector.lineage.weights_digest == model.weights_digest
        assert (store.load_with_probe(version)[1] is None) == (method in ("random", "shuffled"))
    out = capsys.readouterr().out
    assert all(version.uri in out for version in found.values())
    assert "left out: 2 of 3 checkpoints: not chosen" in out
    assert artifacts(run) >= {"series.csv", "series.md"}
    assert store.load(found["random"]).scale == store.load(found["mass-mean"]).scale
    with pytest.raises(NotFound):
        store.resolve("steer.mini.toxicity@champion")


def test_the_table_tells_what_the_registered_vectors_do(arguments, series_directory):
    """AUROCs are found again from the registered vectors and the model alone."""
    run_command(main, [*arguments, "--layers", "1", "--controls", "2"])
    (run,) = mlflow.search_runs(search_all_experiments=True, output_format="list")
    client = mlflow.MlflowClient()
    table = pd.read_csv(client.download_artifacts(run.info.run_id, "vectors.csv"))
    assert len(table) == len(METHODS) + 4
    data = arguments[arguments.index("--data") + 1]
    statements = load_statements(*choose_dimensions("toxicity", data), data, limit=0)
    model = load(find_series(str(series_directory)).select("last")[0])
    features, labels = extract(model, statements.texts, layers=[1]).layer(1), statements.labels
    held_out = np.flatnonzero(split_statements(statements, FittingProtocol(seeds=1)).folds[0] == 0)
    for row in table.itertuples():
        vector = VectorStore().load(VectorStore().resolve(row.vector))
        projections, positive = features[held_out] @ vector.direction, labels[held_out]
        wins = (projections[positive][:, None] > projections[~positive]).mean()
        assert row.auroc == pytest.approx(wins, abs=1e-3)
        assert (row.n_test, row.n_train) == (len(held_out), len(labels) - len(held_out))
    judged = table.set_index("method")["another_direction"]
    assert judged["mass-mean"] == "not shown"
    assert judged[["random", "shuffled"]].isna().all()
    assert set(judged[list(METHODS)]) <= {"yes", "not shown", "cannot be told"}
    names = [artifact.path for artifact in client.list_artifacts(run.info.run_id, "figures")]
    assert names == ["figures/toxicity_methods.png", "figures/toxicity_methods.svg"]


def test_vectors_made_again_are_the_same_versions(arguments):
    run_command(probe, [*arguments, "--checkpoints", "last"])
    (probed,) = VectorStore().list("mini", "toxicity")
    given = [*arguments, "--methods", "mass-mean,lda", "--controls", "1"]
    run_command(main, given)
    first = by_method()
    assert first["mass-mean"].version == probed.version
    assert len({version.layer for version in first.values()}) == 1
    run_command(main, given)
    assert len(VectorStore().list("mini", "toxicity")) == len(first)
    assert VectorStore().resolve("steer.mini.toxicity@champion").version == probed.version


def test_a_users_answers_become_a_version(arguments, tmp_path, capsys):
    rows = [
        f"the city {number},{word},{label}" for number in range(20) for word, label in (("kind is", 1), ("cruel is", 0))
    ]
    path = tmp_path / "own.csv"
    path.write_text("\n".join(["prompt,response,label", *rows]))
    chosen = ["--layers", "1", "--controls", "0", "--methods", "response-mean", "--answers", f"toxicity={path}"]
    assert run_command(main, [*arguments, *chosen]) == 0
    (version,) = VectorStore().list("mini", "toxicity")
    assert (version.tags["method"], version.tags["statements_source"]) == ("response-mean", "file:own.csv")
    probe = VectorStore().load_with_probe(version)[1]
    assert (probe.layer, probe.lineage.statements_source) == (1, "file:own.csv")
    assert (
        f"Probe of {version.uri}{'' if probe.works else ' (not used)'}: {probe.quality.describe()}."
        in capsys.readouterr().out
    )
    (run,) = mlflow.search_runs(search_all_experiments=True, output_format="list")
    table = pd.read_csv(mlflow.MlflowClient().download_artifacts(run.info.run_id, "vectors.csv"))
    assert table.loc[0, "probe_auroc"] == pytest.approx(probe.quality.auroc)
    assert version.tags["n_train"] == "40"
    capsys.readouterr()
    assert run_command(main, [*arguments, "--methods", "pca", "--answers", f"toxicity={path}"]) == 2
    assert "answers are read by response-mean alone: give methods=response-mean" in capsys.readouterr().err


def test_a_range_of_layers_makes_one_version(arguments, series_directory):
    assert run_command(main, [*arguments, "--layers", "1,0-2", "--methods", "mass-mean,lda"]) == 0
    store = VectorStore()
    found = {
        (version.tags["method"], version.layers): store.load(version) for version in store.list("mini", "toxicity")
    }
    assert set(found) == {(name, at) for name in ("mass-mean", "lda", *CONTROLS) for at in ((1,), (0, 1, 2))}
    several = found["mass-mean", (0, 1, 2)]
    np.testing.assert_array_equal(several.at(1).unit, found["mass-mean", (1,)].direction)
    drawn = [direction.unit for direction in found["random", (0, 1, 2)].directions]
    assert np.abs(np.array(drawn) @ np.array(drawn).T - np.eye(3)).max() < 0.99
    for control in CONTROLS:
        scales = zip(found[control, (0, 1, 2)].directions, several.directions, strict=True)
        assert all(drawn.scale == direction.scale for drawn, direction in scales)
    (run,) = mlflow.search_runs(search_all_experiments=True, output_format="list")
    table = pd.read_csv(mlflow.MlflowClient().download_artifacts(run.info.run_id, "vectors.csv"))
    curves = {name for name in run.data.metrics if name.startswith("toxicity/lda ")}
    assert {name.split("/")[1] for name in curves} == {"lda layer 1", "lda layers 0-2"}
    row = table[(table["layer"] == "0-2") & (table["method"] == "mass-mean")].iloc[0]
    assert row["cosine_with_mass_mean"] == pytest.approx(1.0) and row["scale"] == pytest.approx(several.length)
    data = arguments[arguments.index("--data") + 1]
    statements = load_statements(*choose_dimensions("toxicity", data), data, limit=0)
    activations = extract(load(find_series(str(series_directory)).select("last")[0]), statements.texts)
    held_out = split_statements(statements, FittingProtocol(seeds=1)).folds[0] == 0
    sums = sum(activations.layer(each.layer) @ each.unit / each.scale for each in several.directions)
    wins = sums[held_out & statements.labels][:, None] > sums[held_out & ~statements.labels]
    assert row["auroc"] == pytest.approx(wins.mean(), abs=1e-3)
    assert run_command(main, [*arguments, "--layers", "1,0-2", "--methods", "mass-mean,lda"]) == 0
    assert len(store.list("mini", "toxicity")) == len(found)


@pytest.mark.parametrize("layers", ["3", "0,2-9"])
def test_layers_that_the_model_lacks_are_refused_before_the_sweep(arguments, monkeypatch, capsys, layers):
    swept = []
    monkeypatch.setattr("pipelines.vectors.experiment.run_with_bar", lambda *_: swept.append(1))
    assert run_command(main, [*arguments, "--layers", layers]) == 2
    assert "does not exist: mini has 3 layers, 0 to 2" in capsys.readouterr().err
    assert swept == []


def test_layers_may_be_the_champions(arguments):
    run_command(probe, [*arguments, "--checkpoints", "last", "--layers", "1"])
    assert run_command(main, [*arguments, "--layers", "champion", "--methods", "lda", "--controls", "0"]) == 0
    assert (by_method()["lda"].layer, by_method().keys()) == (1, {"mass-mean", "lda"})


@pytest.fixture
def target_directory(tmp_path, word_tokenizer):
    """A model of the series' shape with weights of its own, as fine-tuning would leave it."""
    directory = tmp_path / "tuned"
    tiny_llama(7).save_pretrained(directory)
    word_tokenizer.save_pretrained(directory)
    return directory


def test_a_transferred_vector_names_its_target(arguments, series_directory, target_directory):
    more = ["--layers", "2", "--checkpoints", "10", "--methods", "mass-mean,lda", "--target", str(target_directory)]
    assert run_command(main, [*arguments, *more]) == 0
    assert VectorStore().list("mini") == []
    found = {version.tags["method"]: version for version in VectorStore().list("tuned", "toxicity")}
    assert set(found) == {"mass-mean", "lda", "random", "shuffled"}
    source, target = (
        load(find_series(str(directory)).select("last")[0]) for directory in (series_directory, target_directory)
    )
    data = arguments[arguments.index("--data") + 1]
    statements = load_statements(*choose_dimensions("toxicity", data), data, limit=0)
    train = split_statements(statements, FittingProtocol(seeds=1)).folds[0] != 0
    features = extract(target, statements.texts, layers=[2]).layer(2)[train]
    for method in ("mass-mean", "lda"):
        vector = VectorStore().load(found[method])
        assert vector.scale == pytest.approx((features @ vector.direction).std(ddof=1), rel=1e-4)
        assert (vector.lineage.model, vector.lineage.target) == ("mini", "tuned")
        assert found[method].checkpoint_uri == CheckpointStore().get("mini", 10).uri
        assert vector.lineage.target_digest == target.weights_digest != vector.lineage.weights_digest
        assert VectorStore().load_with_probe(found[method])[1] is None
        require_fits(found[method], target.facts)
        with pytest.raises(Mismatch, match="for tuned and the model served is mini"):
            require_fits(found[method], source.facts)
        with pytest.raises(Mismatch, match="transfer it to the model that is served"):
            require_fits(found[method], dataclasses.replace(target.facts, weights_digest="0" * 64))
    model = load(find_series(str(series_directory)).select("10")[0])
    at_source = fit_mass_mean(extract(model, statements.texts, layers=[2]).layer(2)[train], statements.labels[train])
    np.testing.assert_allclose(VectorStore().load(found["mass-mean"]).direction, at_source.direction, atol=1e-4)


def test_only_models_of_one_architecture_take_a_vector(arguments, tmp_path, word_tokenizer, capsys):
    from transformers import LlamaForCausalLM

    config = tiny_llama().config
    config.num_hidden_layers = 2
    LlamaForCausalLM(config).save_pretrained(tmp_path / "shallow")
    word_tokenizer.save_pretrained(tmp_path / "shallow")
    assert run_command(main, [*arguments, "--target", str(tmp_path / "shallow")]) == 2
    assert "mini has layers 3 and the target shallow has 2" in capsys.readouterr().err


def test_a_target_that_is_not_there_is_refused_at_once(arguments, cache, capsys):
    assert run_command(main, [*arguments, "--target", "./nowhere"]) == 2
    assert "there is no file or directory './nowhere'" in capsys.readouterr().err
    assert not (cache / "probe").exists()


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--methods", "pcs"], "unknown method 'pcs'; did you mean 'pca'?"),
        (["--methods", ","], "unknown method ','"),
        (["--controls", "-1"], "controls is -1"),
        (["--methods", "none", "--controls", "0"], "which leaves no vector to make"),
        (["--layers", "3"], "layer 3 does not exist: mini has 3 layers"),
        (["--layers", "deep"], "layers 'deep' is neither"),
        (["--layers", "champion"], "steer.mini.toxicity"),
        (["--checkpoints", "init"], "selects no trained one"),
    ],
)
def test_bad_input_is_one_sentence(arguments, more, sentence, capsys):
    assert run_command(main, [*arguments, *more]) == 2
    assert sentence in capsys.readouterr().err


def test_checkpoints_without_a_direction_are_left_out(arguments, series_directory, tmp_path, capsys):
    """As a step 0 whose blocks add nothing yet: the last token alone decides every state."""
    series = shutil.copytree(series_directory, tmp_path / "zeros" / "mini")
    weights = series / "step_000000" / "model.safetensors"
    tensors = load_file(weights)
    added = [name for name in tensors if "o_proj" in name or "down_proj" in name]
    save_file(tensors | {name: 0 * tensors[name] for name in added}, weights, metadata={"format": "pt"})
    data = Path(arguments[3].partition("=")[2])
    table = pd.read_csv(data)
    table.assign(statement=table["statement"] + " .").to_csv(data, index=False)
    given = ["--model", str(series), *arguments[2:], "--methods", "mass-mean", "--controls", "0", "--layers", "1"]
    assert run_command(main, [*given, "--checkpoints", "0,100"]) == 0
    assert "step 0: no vector for toxicity at layer 1, where the class means coincide" in capsys.readouterr().out
    assert [version.checkpoint_step for version in VectorStore().list("mini", "toxicity")] == [100]
    assert run_command(main, [*given, "--checkpoints", "0"]) == 2
    assert "where the class means coincide: choose other `layers` or `checkpoints`" in capsys.readouterr().err


def test_controls_alone_lead_to_no_calibration(arguments, capsys):
    given = {"layers": "1", "checkpoints": "10", "device": "cpu"}
    flags = [part for name, value in given.items() for part in (f"--{name}", value)]
    assert run_command(main, [*arguments, "--methods", "none", *flags]) == 0
    assert next_parameters(capsys.readouterr().out, "vectors").items() >= given.items()


def test_vectors_of_few_statements_lead_to_the_report(series_directory, tmp_path, tracking, cache, capsys):
    few = write_statements(tmp_path, openings=12)
    given = ["--model", str(series_directory), "--data", str(few), "--seeds", "1", "--layers", "1"]
    assert run_command(main, [*given, "--methods", "mass-mean", "--controls", "0"]) == 0
    assert next_parameters(capsys.readouterr().out, "report") == {"model": str(series_directory)}


def test_vectors_contend_at_the_checkpoint_they_are_of(arguments, capsys):
    flags = ["--methods", "mass-mean", "--controls", "0", "--layers", "1", "--precision", "float32"]
    assert run_command(main, [*arguments, *flags, "--checkpoints", "0,10"]) == 0
    given = next_parameters(capsys.readouterr().out, "calibrate")
    assert (given["checkpoint"], given["precision"], given["methods"]) == ("10", "float32", "none")
    assert run_command(main, [*arguments, *flags, "--checkpoints", "0,100"]) == 0
    assert "checkpoint" not in next_parameters(capsys.readouterr().out, "calibrate")
