"""What the stores promise, written once and run against SQLite and against real servers on SQLite and PostgreSQL."""

import dataclasses
import json
import os
import traceback
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import mlflow
import numpy as np
import pytest
from mlflow.store.artifact.http_artifact_repo import HttpArtifactRepository
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

from registry.calibration import Calibration, CalibrationPoint
from registry.checkpoint_store import CheckpointStore
from registry.checkpoints import Checkpoint
from registry.errors import NotFound
from registry.store import VectorStore
from registry.vectors import Lineage, LinearProbe, SteeringVector
from registry.verdicts import TextVerdict
from tests.forked import run_forked

CHECKPOINT = Checkpoint("tiny", "org/tiny", "step64", 64)
MEASURED = Calibration(-1.0, 2.0, 1.0, 1.34, (CalibrationPoint(0.0, 1.0, 0.0, 0.0, 0.0),), 9, "s", "r")


_NUMBERS = {field.name: 0.0 for field in dataclasses.fields(TextVerdict) if field.type is float}
REFUTED = TextVerdict(
    **_NUMBERS | {"strength": MEASURED.recommended},
    works=False,
    behaviour="toxic continuations",
    n=200,
    random_directions=13,
    run_id="r",
)


def lineage(checkpoint_uri, run_id, *, model="tiny"):
    return Lineage(
        model, checkpoint_uri, 64, "step64", "ab" * 32, "cd" * 32, "packaged:remarks", "mass-mean", run_id, "c1", 80
    )


def make_vector(checkpoint_uri, run_id, *, dimension="toxicity", layer=1, model="tiny"):
    return SteeringVector.at_layer(
        dimension,
        np.array([0.6, 0.8], np.float32),
        2.0,
        layer,
        lineage(checkpoint_uri, run_id, model=model),
        3.0,
        0.5,
    )


def register(unit="u1", *, dimension="toxicity", layer=1, model="tiny", store=None):
    checkpoint = CheckpointStore().register(CHECKPOINT, "ab" * 32)
    with mlflow.start_run() as run:
        vector = make_vector(checkpoint.uri, run.info.run_id, dimension=dimension, layer=layer, model=model)
        probe = LinearProbe(dimension, layer, np.array([1.0, 2.0], np.float32), 0.1, vector.lineage)
        return (store or VectorStore()).register(vector, probe, {f"{dimension}/auroc": 0.9}, unit_digest=unit)


@contextmanager
def emptied(uri: str, monkeypatch) -> Iterator[str]:
    """MLflow pointed to a server, emptied of what the last test registered."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    client = mlflow.MlflowClient()
    for model in client.search_registered_models():
        client.delete_registered_model(model.name)
    mlflow.set_experiment(f"test-{uuid.uuid4()}")
    yield uri
    while mlflow.active_run():
        mlflow.end_run()


def register_in_processes(processes: int, units: int) -> None:
    """So many processes at once, each registering units of its own."""

    def registered(number: int) -> NoReturn:
        try:
            for unit in range(units):
                register(f"unit-{number}-{unit}")
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)

    children = [os.fork() or registered(number) for number in range(processes)]
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * processes


def register_at_once(processes: int, units: int = 1) -> None:
    """So many processes, each registering units of its own and the one checkpoint; then what must hold."""
    ended = run_forked(lambda: register_in_processes(processes, units))
    assert ended.returncode == 0, ended.output
    assert [checkpoint.version for checkpoint in CheckpointStore().list("tiny")] == ["1"]  # all registered this one
    registered = VectorStore().list("tiny")
    assert sorted(int(vector.version) for vector in registered) == list(range(1, processes * units + 1))
    expected = {f"unit-{number}-{unit}" for number in range(processes) for unit in range(units)}
    assert {vector.tags["unit_digest"] for vector in registered} == expected


class StoreBehaviour:
    def test_a_checkpoint_is_registered_once_and_found_by_step(self, tracking):
        first = CheckpointStore().register(CHECKPOINT, "ab" * 32)
        again = CheckpointStore().register(CHECKPOINT, "ab" * 32)
        assert first == again
        assert CheckpointStore().get("tiny", 64).uri == first.uri == "models:/ckpt.tiny/1"
        assert mlflow.MlflowClient().get_model_version_by_alias("ckpt.tiny", "step-64").version in (1, "1")

    def test_other_weights_of_the_same_revision_are_another_version(self, tracking):
        CheckpointStore().register(CHECKPOINT, "ab" * 32)
        assert CheckpointStore().register(CHECKPOINT, "ef" * 32).version == "2"

    def test_a_missing_step_names_those_that_exist(self, tracking):
        CheckpointStore().register(CHECKPOINT, "ab" * 32)
        with pytest.raises(NotFound, match=r"step 7.*64"):
            CheckpointStore().get("tiny", 7)

    def test_a_vector_returns_with_probe_and_lineage(self, tracking):
        registered = register()
        store = VectorStore()
        vector, probe = store.load_with_probe(registered)
        np.testing.assert_array_equal(vector.direction, np.array([0.6, 0.8], np.float32))
        assert probe is not None
        assert probe.bias == 0.1
        assert registered.name == "steer.tiny.toxicity"
        for tag, value in {
            "checkpoint": "models:/ckpt.tiny/1",
            "checkpoint_step": "64",
            "checkpoint_revision": "step64",
            "weights_digest": "ab" * 32,
            "statements_digest": "cd" * 32,
            "layer": "1",
            "method": "mass-mean",
            "code_commit": "c1",
            "run_id": vector.lineage.run_id,
        }.items():
            assert registered.tags[tag] == value

    def test_one_unit_registers_once(self, tracking):
        first, again, other = register("u1"), register("u1"), register("u2")
        assert first == again
        assert [first.version, other.version] == ["1", "2"]
        assert [version.version for version in VectorStore().list("tiny", "toxicity")] == ["2", "1"]

    def test_a_race_ends_with_one_version(self, tracking):
        overtaken, checkpoints = VectorStore(), CheckpointStore()
        early, late = (dataclasses.replace(CHECKPOINT, revision=f"step{step}", step=step) for step in (1, 2))
        checkpoints.register(early, "12" * 32)
        register("u0", store=overtaken)  # both have listed what there is
        others = [register(unit) for unit in ("u1", "u2")]
        assert [register(unit, store=overtaken) for unit in ("u1", "u2")] == others
        assert CheckpointStore().register(late, "34" * 32) == checkpoints.register(late, "34" * 32)
        last = register("u3", store=overtaken)
        assert [version.version for version in VectorStore().list("tiny")] == [last.version, "3", "2", "1"]
        assert sorted(version.step for version in CheckpointStore().list("tiny")) == [1, 2, 64]

    def test_a_version_deleted_meanwhile_is_registered_anew(self, tracking):
        store = VectorStore()
        first = register("u1", store=store)
        mlflow.MlflowClient().delete_model_version(first.name, first.version)
        again = register("u1", store=store)
        assert again.model_id != first.model_id
        assert [version.model_id for version in VectorStore().list("tiny")] == [again.model_id]

    def test_commands_of_a_description_name_its_own_version(self, tracking):
        store, client = VectorStore(), mlflow.MlflowClient()
        versions = [register("u1", store=store), register("u2"), register("u3", store=store)]
        for vector in versions:
            described = client.get_model_version(vector.name, vector.version).description
            assert f"{vector.name}/{vector.version}`" in described
            links = json.loads(client.get_logged_model(vector.model_id).tags["mlflow.modelVersions"])
            assert [(link["name"], str(link["version"])) for link in links] == [(vector.name, vector.version)]

    def test_a_page_shows_eight_tags_at_most(self, tracking):
        registered = VectorStore().calibrate(register(), MEASURED)
        VectorStore().promote(registered, reason="better")
        later = {"works_on_text": "yes", "role_on_text": "sufficient", "text_verdict": "{}"}
        VectorStore().annotate(registered, {**later, "joint_limit": "{}", "example": "{}"})
        stored = mlflow.MlflowClient().get_model_version(registered.name, registered.version).tags
        shown = {key for key in stored if not key.startswith("mlflow.")}
        expected = {"dimension", "layer", "checkpoint", "checkpoint_step", "method", "recommended_strength"}
        assert shown == expected | {"works_on_text", "champion_because"}
        assert {key.removeprefix("mlflow.trusttrace.") for key in stored.keys() - shown} == {
            *("lineage", "calibration", "text_verdict", "role_on_text", "joint_limit", "example")
        }
        hidden = "tags.`mlflow.trusttrace.lineage` LIKE '%\"packaged:remarks\"%'"
        assert [str(found.version) for found in mlflow.MlflowClient().search_model_versions(hidden)] == [
            registered.version
        ]

    def test_a_version_is_downloaded_once_and_file_by_file(self, tracking, monkeypatch):
        registered, files = register(), []
        for kind in (LocalArtifactRepository, HttpArtifactRepository):
            real = kind._download_file
            monkeypatch.setattr(
                kind, "_download_file", lambda self, path, to, real=real: files.append(path) or real(self, path, to)
            )
        VectorStore().load_with_probe(registered)
        assert sorted(files) == ["probe.safetensors", "vector.safetensors"]

    def test_a_promoted_copy_is_read_from_its_origin(self, tracking):
        copied = mlflow.MlflowClient().copy_model_version(register().uri, "steer.tiny.copy")
        vector = VectorStore().load(VectorStore().resolve(f"steer.tiny.copy/{copied.version}"))
        assert vector.scale == 2.0

    def test_a_version_that_is_demoted_loses_alias_reason_and_recommendation(self, tracking):
        first = VectorStore().calibrate(register("u1"), MEASURED)
        second = VectorStore().calibrate(register("u2"), MEASURED)
        assert MEASURED.recommended
        VectorStore().promote(second, reason="better on validation")
        demoted = VectorStore().demote(first)
        assert demoted.calibration == dataclasses.replace(MEASURED, recommended=0.0)
        assert VectorStore().resolve("steer.tiny.toxicity@champion").version == second.version  # another's place stays
        demoted = VectorStore().demote(second)
        assert demoted.aliases == () and "champion_because" not in demoted.tags
        assert demoted.calibration.recommended == 0
        with pytest.raises(NotFound, match="@champion"):
            VectorStore().resolve("steer.tiny.toxicity@champion")
        assert VectorStore().demote(register("u3")).calibration is None

    def test_a_missing_version_or_alias_names_what_exists(self, tracking):
        register("u1")
        with pytest.raises(NotFound, match=r"no version 9; versions: 1"):
            VectorStore().resolve("steer.tiny.toxicity/9")
        number = r"give a version by number, such as steer\.tiny\.toxicity/1$"
        with pytest.raises(NotFound, match=rf"no alias @champion; nor any other: {number}"):
            VectorStore().resolve("steer.tiny.toxicity@champion")
        VectorStore().promote(VectorStore().resolve("steer.tiny.toxicity/1"), reason="the only one")
        with pytest.raises(NotFound, match=rf"no alias @champ; aliases: @champion; or {number}"):
            VectorStore().resolve("steer.tiny.toxicity@champ")
        with pytest.raises(NotFound, match=r"registered vectors: steer.tiny.toxicity"):
            VectorStore().resolve("steer.tiny.toxcity/1")

    def test_models_with_similar_names_are_kept_apart(self, tracking):
        for unit, model in enumerate(("my_model", "my-model", "my_model.v2")):
            register(f"u{unit}", model=model)
        assert [version.name for version in VectorStore().list("my_model")] == ["steer.my_model.toxicity"]

    def test_it_is_an_mlflow_model_that_steers(self, tracking):
        steered = mlflow.pyfunc.load_model(register().uri).predict(
            np.zeros((1, 2), np.float32), params={"strength": 1.5}
        )
        np.testing.assert_allclose(steered, [[1.8, 2.4]], rtol=1e-6)
