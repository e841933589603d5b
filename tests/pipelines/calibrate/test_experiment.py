"""Calibration as a user runs it, on a tiny series and a real tracking store."""

import shutil
from dataclasses import fields, replace
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file
from transformers import MambaConfig, MambaForCausalLM

from pipelines.calibrate.__main__ import main
from pipelines.cli.command import run_command
from pipelines.probe.__main__ import main as probe
from registry.store import VectorStore
from registry.verdicts import TextVerdict
from tests.conftest import WORDS, new_store, use_store
from tests.pipelines.behaviours.small_behaviour import cruel_answers
from tests.pipelines.described import described_picture
from tests.small_statements import write_statements


def given(series, directory):
    data = f"toxicity={write_statements(directory, openings=240)}"
    return ["--model", str(series), "--data", data, "--dimensions", "toxicity", "--seeds", "1"]


@pytest.fixture
def arguments(series_directory, tmp_path, tracking, cache):
    return given(series_directory, tmp_path)


@pytest.fixture(scope="module", autouse=True)
def short_prose():
    """Sentences that the word tokenizer knows; the packaged ones are all unknown words to it."""
    sentences = [f"the city of {place} is in {country}" for place in ("Paris", "Peru") for country in ("France", "a")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipelines.calibrate.splits.prose_for", lambda *_: tuple(sentences * 10))
        patch.setattr("pipelines.calibrate.candidates.background_prose", lambda: tuple(sentences * 10))
        yield


@pytest.fixture(scope="module")
def calibrated_store(series_directory, empty_database, tmp_path_factory):
    """A store with a champion that was calibrated at layer 2, and the cache beside it."""
    root = tmp_path_factory.mktemp("calibrated")
    with pytest.MonkeyPatch.context() as patch:
        new_store(empty_database, root, patch)
        patch.setenv("TRUSTTRACE_CACHE", str(root / "cache"))
        assert run_command(main, [*given(series_directory, root), "--layers", "2"]) == 0
    return root


@pytest.fixture
def calibrated(calibrated_store, series_directory, cache, tmp_path, monkeypatch):
    """What the calibration was given, in a copy of its store and its cache."""
    shutil.copy(calibrated_store / "mlflow.db", tmp_path)
    shutil.copytree(calibrated_store / "cache", cache)
    use_store(tmp_path, monkeypatch)
    return given(series_directory, tmp_path)


@pytest.mark.draws
def test_the_champion_carries_its_curve_and_the_run_shows_it(arguments, capsys):
    assert run_command(main, [*arguments, "--layers", "1,2"]) == 0
    champion = VectorStore().resolve("steer.mini.toxicity@champion")
    calibration = champion.calibration
    assert calibration is not None
    assert champion.layer in (1, 2)
    assert champion.checkpoint_step == 100
    assert champion.tags["champion_because"].startswith("calibrated: ")
    assert calibration.low <= 0 <= calibration.high
    assert {point.strength for point in calibration.points} >= {-1.0, 0.0, 0.5}
    (run,) = mlflow.search_runs(search_all_experiments=True, output_format="list")
    assert run.info.run_id == calibration.run_id
    assert run.data.metrics["toxicity/layer"] == champion.layer
    client = mlflow.MlflowClient()
    table = pd.read_csv(client.download_artifacts(run.info.run_id, "calibration.csv"))
    assert set(table["layer"]) == {1, 2}
    assert set(table[table["split"] == "test"]["direction"]) == {"mass-mean", "random"}
    outcome = pd.read_csv(client.download_artifacts(run.info.run_id, "calibrated.csv")).to_dict("records")
    assert [(row["dimension"], row["vector"], row["works"]) for row in outcome] == [("toxicity", champion.uri, True)]
    assert outcome[0]["strength"] == calibration.recommended and outcome[0]["low"] > 0
    figures = [Path(artifact.path).name for artifact in client.list_artifacts(run.info.run_id, "figures")]
    assert figures == ["toxicity_calibration.png", "toxicity_calibration.svg"]
    assert described_picture(run.info.run_id).name == "toxicity_calibration.png"
    printed = capsys.readouterr().out
    assert champion.uri in printed
    assert "left out: 2 of 3 checkpoints: not chosen; `checkpoint` chooses one" in printed
    assert {file.path for file in client.list_artifacts(run.info.run_id)} >= {"series.csv", "series.md"}


def test_run_and_version_pages_say_whether_it_works(arguments, capsys):
    assert run_command(main, [*arguments, "--checkpoint", "100", "--device", "cpu"]) == 0
    champion = VectorStore().resolve("steer.mini.toxicity@champion")
    client = mlflow.MlflowClient()
    version = client.get_model_version(champion.name, champion.version).description
    assert version.startswith("**Works** on held-out preference; calibrated: on validation")
    assert "| effect on test [95 %] | detectable in 80 % | largest of random directions | perplexity" in version
    run = client.get_run(champion.calibration.run_id).data.tags["mlflow.note.content"]
    assert run.startswith("**Steering works in 1 of 1 dimension of") and "| toxicity | yes |" in run
    assert run.partition("\n")[0].endswith(": toxicity, on the test half of calibration.**")
    printed, placed = capsys.readouterr().out, "TRUSTTRACE_CHECKPOINT=100 TRUSTTRACE_DEVICE=cpu make serve"
    assert f"#/models/{champion.name}/versions/{champion.version}" in printed
    assert printed.endswith(f"next: TRUSTTRACE_MODEL={arguments[1]} {placed}\n")


def test_calibrated_again_version_and_curve_are_the_same(calibrated):
    first = VectorStore().resolve("steer.mini.toxicity@champion")
    assert run_command(main, [*calibrated, "--layers", "2"]) == 0
    second = VectorStore().resolve("steer.mini.toxicity@champion")
    assert second.version == first.version
    assert second.calibration.points == first.calibration.points
    assert second.calibration.run_id != first.calibration.run_id


def test_a_later_probe_leaves_a_calibrated_champion_where_it_is(calibrated, capsys):
    champion = VectorStore().resolve("steer.mini.toxicity@champion")
    assert run_command(probe, [*calibrated, "--checkpoints", "0"]) == 0
    assert VectorStore().resolve("steer.mini.toxicity@champion") == champion
    assert f"{champion.uri} is calibrated and stays champion" in capsys.readouterr().out


def test_only_the_layers_tried_are_probed(calibrated, cache):
    (unit,) = (cache / "probe").glob("*.safetensors")
    assert len([name for name in load_file(unit) if name.endswith("mass_mean.direction")]) == 1


def test_directions_of_a_whole_sweep_are_used_again(arguments, cache):
    run_command(probe, [*arguments, "--checkpoints", "last"])
    (probed,) = VectorStore().list("mini", "toxicity")
    units = sorted((cache / "probe").glob("*.safetensors"))
    run_command(main, [*arguments, "--layers", str(probed.layer)])
    champion = VectorStore().resolve("steer.mini.toxicity@champion")
    assert champion.version == probed.version
    assert champion.calibration is not None
    assert sorted((cache / "probe").glob("*.safetensors")) == units


def test_a_running_champion_is_never_replaced_by_less(calibrated, capsys):
    champion = VectorStore().resolve("steer.mini.toxicity@champion")
    assert run_command(main, [*calibrated, "--layers", "0"]) == 0
    assert VectorStore().resolve("steer.mini.toxicity@champion").version == champion.version
    assert f"steer.mini.toxicity/{champion.version} at layer 2" in capsys.readouterr().out


def test_what_an_evaluation_refuted_replaces_no_champion(calibrated, capsys):
    store = VectorStore()
    refuted = store.resolve("steer.mini.toxicity@champion")
    numbers = {field.name: 0.0 for field in fields(TextVerdict) if field.type is float}
    told = {"behaviour": "toxic continuations", "n": 200, "random_directions": 13, "run_id": "r"}
    verdict = {**numbers, **told, "works": False, "strength": refuted.calibration.recommended}
    store.demote(store.judge(refuted, TextVerdict(**verdict)))
    assert run_command(main, [*calibrated, "--layers", "2"]) == 0
    version = store.get(refuted.name, refuted.version)
    assert version.calibration == replace(refuted.calibration, run_id=version.calibration.run_id)
    assert (version.aliases, version.recommended) == ((), 0.0)
    printed = capsys.readouterr().out
    assert "not champion: mass-mean at layer 2 works on this test half, but an evaluation showed" in printed
    assert "make serve" not in printed


def test_several_layers_contend_as_one_vector(arguments, capsys):
    """Alone they win, as one version with a direction for each layer, its probe at the lowest."""
    assert run_command(main, [*arguments, "--layers", "0,0-2,1", "--methods", "mass-mean"]) == 0
    (run,) = mlflow.search_runs(search_all_experiments=True, output_format="list")
    table = pd.read_csv(mlflow.MlflowClient().download_artifacts(run.info.run_id, "calibration.csv"))
    assert set(table["layer"].astype(str)) == {"0", "0-2", "1"}
    capsys.readouterr()
    for version in VectorStore().list("mini"):
        mlflow.MlflowClient().delete_model_version(version.name, version.version)
    assert run_command(main, [*arguments, "--layers", "1-2"]) == 0
    (version,) = VectorStore().list("mini", "toxicity")
    assert (version.layers, version.tags["method"]) == ((1, 2), "mass-mean")
    vector, probe = VectorStore().load_with_probe(version)
    assert (vector.layers, probe.layer) == ((1, 2), 1)
    printed = capsys.readouterr().out
    assert "mass-mean at layers 1-2" in printed or version.aliases == ("champion",)
    assert run_command(main, [*arguments, "--methods", "none", "--vectors", version.uri]) == 0
    assert [again.version for again in VectorStore().list("mini", "toxicity")] == [version.version]


def test_a_trained_vector_has_one_layer(arguments, capsys):
    assert run_command(main, [*arguments, "--layers", "1,0-2", "--methods", "optimised"]) == 2
    assert "`layers` names 0-2 as one vector: give single layers, or the range" in capsys.readouterr().err


def test_what_does_not_work_is_neither_champion_nor_recommended(arguments, tmp_path, capsys):
    """Labels that say nothing about the text."""
    rows = pd.read_csv(tmp_path / "toxicity.csv")
    pairs = np.random.default_rng(1).random(len(rows) // 2) < 0.5
    rows["label"] = np.where(np.repeat(pairs, 2), rows["label"], 1 - rows["label"])
    rows.to_csv(tmp_path / "toxicity.csv", index=False)
    assert run_command(main, [*arguments, "--layers", "1,2"]) == 0
    (version,) = VectorStore().list("mini", "toxicity")
    assert version.calibration.recommended == 0
    assert version.aliases == ()
    printed = capsys.readouterr().out
    assert "toxicity: not champion, and no strength is recommended" in printed
    assert "make serve" not in printed


def test_the_champion_may_be_of_any_method(arguments, capsys):
    run_command(main, [*arguments, "--layers", "1,2", "--methods", "mass-mean,logistic"])
    (run,) = mlflow.search_runs(search_all_experiments=True, output_format="list")
    table = pd.read_csv(mlflow.MlflowClient().download_artifacts(run.info.run_id, "calibration.csv"))
    assert set(table[table["split"] == "validation"]["direction"]) == {"mass-mean", "logistic"}
    assert set(table[table["split"] == "test"]["direction"]) == {"mass-mean", "logistic", "random"}
    champion = VectorStore().resolve("steer.mini.toxicity@champion")
    tried = table[(table["split"] == "validation") & table["strength"].isin([2, 4]) & (table["perplexity_high"] <= 1.1)]
    best = tried.loc[tried["shift"].idxmax()]
    assert (champion.tags["method"], champion.layer) == (best["direction"], best["layer"])
    assert "Not chosen on validation" in capsys.readouterr().out
    reference = f"steer.mini.toxicity/{champion.version}"
    assert run_command(main, [*arguments, "--methods", "none", "--vectors", reference]) == 0
    again = VectorStore().resolve("steer.mini.toxicity@champion")
    assert again.version == champion.version
    assert again.calibration.points == champion.calibration.points


def test_by_text_the_answers_of_the_model_decide(arguments, monkeypatch, capsys):
    for place in ("pipelines.calibrate.experiment", "pipelines.vectors.responses"):
        monkeypatch.setattr(f"{place}.behaviour_of", lambda *_: cruel_answers(repeat=2))
    chosen = ["--layers", "2", "--methods", "mass-mean,response-mean,optimised", "--by", "text"]
    assert run_command(main, [*arguments, *chosen]) == 0
    (run,) = mlflow.search_runs(search_all_experiments=True, output_format="list")
    table = pd.read_csv(mlflow.MlflowClient().download_artifacts(run.info.run_id, "calibration.csv"))
    assert set(table["measure"]) == {"cruel answers"}
    assert (table["unsteered"] - table["shift"].fillna(0)).between(0, 1).all()
    written = table["shift"].notna() & (table["strength"] != 0)
    assert table.loc[written, "length_low"].notna().all() and (table["repetition_change"].notna() == written).all()
    assert set(table[table["split"] == "validation"]["direction"]) == {"mass-mean", "response-mean", "optimised"}
    (version,) = VectorStore().list("mini", "toxicity")
    assert version.calibration.behaviour == "cruel answers"
    assert version.calibration.n == 120
    if version.tags["method"] != "mass-mean":
        assert version.tags["statements_source"] == "answers:cruel-answers"
        probe = VectorStore().load_with_probe(version)[1]
        assert probe.quality.n_answers == int(version.tags["n_train"]) and probe.lineage.pooling == "response"
    assert "cruel answers" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--layers", "3"], "layer 3 does not exist: mini has 3 layers, 0 to 2"),
        (["--layers", "deep"], "layers 'deep' is neither 'auto' nor numbers"),
        (["--checkpoint", "all"], "checkpoint 'all' selects 3 trained checkpoints"),
        (["--checkpoint", "init"], "selects 0 trained checkpoints"),
        (["--checkpoint", "50"], "50"),
        (["--vectors", "steer.other.toxicity/1"], "is no vector of mini for toxicity; make one"),
        (["--vectors", "steer.mini.v2.toxicity/1"], "is no vector of mini for toxicity; make one"),
        (["--vectors", "steer.mini.toxcity/1"], "steer.mini.toxcity/1 'toxcity'; did you mean 'toxicity'?"),
    ],
)
def test_bad_input_is_one_sentence_and_a_failed_run(arguments, more, sentence, capsys):
    assert run_command(main, [*arguments, *more]) == 2
    assert sentence in capsys.readouterr().err
    (run,) = mlflow.search_runs(search_all_experiments=True, output_format="list")
    assert run.info.status == "FAILED"


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--by", "taste"], "unknown by 'taste'; known: auto, statements, text"),
        (
            ["--by", "text", "--dimensions", "humility", "--data", "humility.csv"],
            "cannot be scored for humility: give by=statements, or dimensions=reliability,",
        ),
    ],
)
def test_options_that_cannot_work_open_no_run(arguments, own_dimension, more, sentence, capsys):
    assert run_command(main, [*arguments, *more]) == 2
    assert sentence in capsys.readouterr().err
    assert not mlflow.search_runs(search_all_experiments=True, output_format="list")


def test_a_model_that_cannot_write_is_said_first(arguments, tmp_path, word_tokenizer, capsys):
    config = MambaConfig(hidden_size=16, num_hidden_layers=2, vocab_size=len(WORDS) + 2)
    MambaForCausalLM(config).save_pretrained(tmp_path / "mamba")
    word_tokenizer.save_pretrained(tmp_path / "mamba")
    given = [*arguments, "--model", str(tmp_path / "mamba"), "--layers", "1"]
    assert run_command(main, [*given, "--by", "text"]) == 2
    assert "neither evaluated nor calibrated by text; serve it with TRUSTTRACE_ENGINE=vllm" in capsys.readouterr().err
    assert run_command(main, given) == 0
    assert "mamba can be probed and calibrated by its statements" in capsys.readouterr().out
