"""Export and import as a user runs them, on a small series and two real tracking stores."""

import importlib
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import mlflow
import numpy as np
import pytest

from pipelines.cli.command import run_command
from pipelines.export.__main__ import main as export
from pipelines.export.experiment import strengths_to_bake
from pipelines.export.options import parse_strengths
from registry.calibration import Calibration, HeldOutEffect
from registry.checkpoint_store import CheckpointStore
from registry.errors import InvalidInput
from registry.joint import JointLimit
from registry.pack_card import card
from registry.pack_exchange import packed_vectors
from registry.pack_folder import read_pack
from registry.packs import PackedModel
from registry.records import joint_limit_tags
from registry.store import VectorStore
from registry.vectors import Lineage, LinearProbe, SteeringVector
from serving.model.sources import find_series
from serving.model.weights import locate
from tests.conftest import new_store, tiny_llama, use_store

import_ = importlib.import_module("pipelines.import.__main__").main


def register(series, dimension, *, works=True, layer=1, seed=0):
    """A calibrated champion of a random direction on the last checkpoint of the series."""
    checkpoint = find_series(str(series)).checkpoints[-1]
    digest = locate(checkpoint).digest()
    registered = CheckpointStore().register(checkpoint, digest)
    direction = np.random.default_rng(seed).standard_normal(16)
    direction = (direction / np.linalg.norm(direction)).astype(np.float32)
    with mlflow.start_run() as run:
        place = (checkpoint.model, registered.uri, checkpoint.step, checkpoint.revision, digest)
        lineage = Lineage(*place, "cd" * 32, "packaged:test", "mass-mean", run.info.run_id, "c1", 80)
        vector = SteeringVector.at_layer(dimension, direction, 2.0, layer, lineage, 1.0, 0.0)
        probe = LinearProbe(dimension, layer, 3 * direction, 0.1, lineage)
        version = VectorStore().register(vector, probe, {}, unit_digest=f"{dimension}-{seed}")
    tested = HeldOutEffect(works, 3.0, "preference", 0.4, 0.2, 0.6, 60, 0.1, 1.02)
    calibration = Calibration(-4.0, 6.0, 3.0 if works else 0.0, 1.34, (), 60, "s", "r", tested=tested)
    version = VectorStore().calibrate(version, calibration)
    VectorStore().promote(version, reason="test")
    return version


@pytest.fixture(scope="module")
def registered(series_directory, empty_database, tmp_path_factory):
    """A store with a champion that works and one that does not."""
    root = tmp_path_factory.mktemp("registered")
    with pytest.MonkeyPatch.context() as patch:
        new_store(empty_database, root, patch)
        register(series_directory, "fairness")
        register(series_directory, "robustness", works=False, layer=2, seed=1)
    return root


@pytest.fixture
def series(registered, series_directory, cache, tmp_path, monkeypatch):
    """The series, in a copy of that store."""
    shutil.copy(registered / "mlflow.db", tmp_path)
    use_store(tmp_path, monkeypatch)
    return series_directory


def test_a_folder_that_is_not_there_names_the_shipped_pack(tmp_path, capsys):
    assert run_command(import_, ["--pack", str(tmp_path / "packs" / "tinny")]) == 2
    refusal = capsys.readouterr().err
    assert "packs/tinny; give one that `export` wrote, or the shipped one: mlflow run . -e import" in refusal
    shipped = re.search(r"-P pack=(\S+)", refusal)[1]
    assert (Path(__file__).parents[3] / shipped / "pack.json").is_file()


@pytest.fixture
def elsewhere(empty_database, tmp_path, monkeypatch):
    def point():
        (tmp_path / "elsewhere").mkdir()
        shutil.copy(empty_database, tmp_path / "elsewhere" / "mlflow.db")
        uri = f"sqlite:///{tmp_path / 'elsewhere' / 'mlflow.db'}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        mlflow.set_tracking_uri(uri)
        mlflow.set_registry_uri(uri)
        mlflow.create_experiment("trusttrace", artifact_location=(tmp_path / "elsewhere" / "artifacts").as_uri())

    return point


def test_champions_go_from_one_registry_to_another(series, elsewhere, tmp_path, capsys):
    to = tmp_path / "packs" / "mini"
    assert run_command(export, ["--model", str(series), "--to", str(to)]) == 0
    told = capsys.readouterr().out
    stored = read_pack(to)
    assert stored.digest in told
    assert f"-e import --env-manager local -P model={series} -P pack={to}\n" in told
    fairness, robustness = stored.pack.vectors
    assert fairness.example.unsteered != fairness.example.steered
    assert (fairness.example.strength, fairness.example.tried) == (3.0, 24)
    assert robustness.example is None
    assert VectorStore().resolve("steer.mini.fairness/1").example == fairness.example
    assert (to / "gguf" / "fairness.gguf").is_file()
    assert not (to / "gguf" / "robustness.gguf").exists()
    assert run_command(export, ["--model", str(series), "--to", str(to)]) == 0
    assert read_pack(to).digest == stored.digest

    elsewhere()
    capsys.readouterr()
    assert run_command(import_, ["--pack", str(to)]) == 2
    assert "as model=mini=/path" in capsys.readouterr().err
    assert run_command(import_, ["--pack", str(to), "--model", str(series)]) == 0
    told = capsys.readouterr().out
    assert "fairness     yes                 3  models:/steer.mini.fairness/1 (registered; it was" in told
    assert "robustness   no                  0" in told
    assert f"next: TRUSTTRACE_MODEL={series} make serve\n" in told.replace("'", "")
    assert run_command(import_, ["--pack", str(to), "--model", str(series)]) == 0
    assert capsys.readouterr().out.count("was there already") == 2
    champion = VectorStore().resolve("steer.mini.fairness@champion")
    assert champion.calibration.tested.works
    runs = mlflow.search_runs(
        search_all_experiments=True, filter_string=f"tags.pack_digest = '{stored.digest}'", output_format="list"
    )
    assert [run.info.status for run in runs if "trusttrace.entry_point" in run.data.tags].count("FINISHED") == 2


def test_another_models_pack_is_refused_in_a_sentence(series, word_tokenizer, tmp_path, capsys):
    to = tmp_path / "packs" / "mini"
    assert run_command(export, ["--model", str(series), "--to", str(to)]) == 0
    tiny_llama(9).save_pretrained(tmp_path / "other")
    word_tokenizer.save_pretrained(tmp_path / "other")
    assert run_command(import_, ["--pack", str(to), "--model", f"mini={tmp_path / 'other'}"]) == 2
    assert "the pack is for weights" in capsys.readouterr().err


def test_the_baked_checkpoint_lies_beside_the_pack(series, tmp_path, capsys):
    to = tmp_path / "packs" / "mini"
    assert run_command(export, ["--model", str(series), "--to", str(to), "--baked", "true"]) == 0
    baked = to.with_name("mini-baked")
    assert f"{baked}: mini in float32 with fairness 3 as biases" in capsys.readouterr().out
    assert json.loads((baked / "config.json").read_text())["mlp_bias"] is True
    assert find_series(str(baked)).checkpoints[0].repo == str(baked)


def test_a_model_without_champions_is_told_what_to_run(series_directory, tracking, cache, capsys):
    assert run_command(export, ["--model", str(series_directory)]) == 2
    told = capsys.readouterr().err
    assert "mini has no champion to export" in told
    assert f"-e calibrate --env-manager local -P model={series_directory}" in told


def test_two_vectors_of_a_dimension_are_refused(series, capsys):
    other = register(series, "fairness", seed=5)
    both = f"steer.mini.fairness/1,steer.mini.fairness/{other.version}"
    assert run_command(export, ["--model", str(series), "--vectors", both]) == 2
    assert "names fairness more than once" in capsys.readouterr().err


def test_strengths_to_bake_are_recommended_or_within_range(series, tmp_path):
    assert run_command(export, ["--model", str(series), "--to", str(tmp_path / "pack")]) == 0
    packed = [vector.registered for vector in read_pack(tmp_path / "pack").pack.vectors]
    assert strengths_to_bake("recommended", packed) == {"fairness": 3.0}
    assert strengths_to_bake("fairness=1,robustness=-2", packed) == {"fairness": 1.0, "robustness": -2.0}
    with pytest.raises(InvalidInput, match=r"strength 7 of fairness is not within its safe range, -4 to 6"):
        strengths_to_bake("fairness=7", packed)
    with pytest.raises(InvalidInput, match="names toxicity and the pack has fairness, robustness"):
        strengths_to_bake("toxicity=1", packed)
    with pytest.raises(InvalidInput, match="no strength is recommended .*such as robustness=1, after mlflow run"):
        strengths_to_bake("recommended", packed[1:])
    tags = {name: tag for name, tag in packed[0].tags.items() if name != "calibration"}
    bare = replace(packed[0], tags={**tags, "statements_source": "file:mine.csv"})
    said = r"no safe range that strength 1 of fairness .*calibrate it: mlflow run.* -P 'data=<path of mine.csv>'"
    with pytest.raises(InvalidInput, match=said):
        strengths_to_bake("fairness=1", [bare])


def test_strengths_measured_together_are_baked_together(series):
    register(series, "toxicity", seed=3)
    limit = JointLimit({"fairness": 3.0, "toxicity": 3.0}, 0.5, 1.12, {"fairness": 0.8, "toxicity": 0.9}, "r9")
    versions = [VectorStore().resolve(f"steer.mini.{name}@champion") for name in limit.strengths]
    annotated = [VectorStore().annotate(version, joint_limit_tags(limit)) for version in versions]
    model = PackedModel("mini", "mini", "step_000100", 100, versions[0].tags["weights_digest"], 16, 3, "llama")
    pack = packed_vectors(model, annotated, {})
    assert strengths_to_bake("recommended", annotated) == {"fairness": 1.5, "toxicity": 1.5}
    assert strengths_to_bake("fairness=2,toxicity=1", annotated) == {"fairness": 2.0, "toxicity": 1.0}
    assert strengths_to_bake("fairness=5", annotated) == {"fairness": 5.0}
    with pytest.raises(InvalidInput, match="add up to 2.67 times those measured together, over 2; lower"):
        strengths_to_bake("fairness=3,toxicity=1", annotated)
    assert "Together: fairness 1.5, toxicity 1.5, at 1.120x the perplexity." in card(pack)


def test_what_is_baked_is_refused_before_anything_is_written(series, tmp_path, capsys):
    to, given = tmp_path / "pack", ["--model", str(series), "--to", str(tmp_path / "pack"), "--baked", "true"]
    assert run_command(export, [*given, "--strengths", "toxicity=1"]) == 2
    (tmp_path / "pack-baked").mkdir()
    (tmp_path / "pack-baked" / "thesis.tex").write_text("years")
    assert run_command(export, given) == 2
    assert (
        "pack-baked, where the baked checkpoint goes, holds something else (no baked.json)" in capsys.readouterr().err
    )
    assert not to.exists() and (tmp_path / "pack-baked" / "thesis.tex").is_file()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        *(
            (text, "give such as toxicity=2,privacy=1")
            for text in ("toxicity", "toxicity=", "toxicity=nan", "toxicity=two")
        ),
        ("toxicity=1,toxicity=2", "names toxicity twice"),
        ("", "names none; give recommended, or such as"),
        (",", "names none"),
    ],
)
def test_strengths_that_are_none_are_refused(text, words):
    with pytest.raises(InvalidInput, match=words):
        parse_strengths(text)
