"""What is read from registered versions, shown on their pages and mended, which is the same on every store."""

import dataclasses
import json
from contextlib import contextmanager

import mlflow
import pytest
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

from registry.calibration import Calibration, CalibrationPoint, HeldOutEffect
from registry.checkpoint_store import CheckpointStore
from registry.errors import CorruptFile, InvalidInput, Mismatch
from registry.named_series import series_of
from registry.store import VectorStore
from tests.registry.store_behaviour import CHECKPOINT, MEASURED, make_vector, register


@pytest.mark.parametrize("prefix", ["", "mlflow.trusttrace."])
def test_tags_of_earlier_commits_are_read(tracking, prefix):
    """All in sight; later each in a hidden tag of its own."""
    registered = VectorStore().calibrate(register(), MEASURED)
    client, at = mlflow.MlflowClient(), (registered.name, registered.version)
    for key in client.get_model_version(*at).tags:
        client.delete_model_version_tag(*at, key)
    shown = {"dimension", "layer", "checkpoint", "checkpoint_step", "method", "recommended_strength"}
    for name, value in {**registered.tags, "calibrated_range": "-1 to 2"}.items():
        client.set_model_version_tag(*at, name if name in shown else f"{prefix}{name}", value)
    former = VectorStore().get(*at)
    assert former.tags == {**registered.tags, "calibrated_range": "-1 to 2"} and former.calibration == MEASURED
    assert VectorStore().load(former).layer == registered.layer
    assert register().version == registered.version
    anew = dataclasses.replace(MEASURED, high=3.0)
    assert VectorStore().calibrate(former, anew).calibration == anew
    stored = client.get_model_version(*at).tags
    assert "calibration" not in stored and f"{prefix}calibrated_range" not in stored


def test_a_damaged_lineage_names_its_version(tracking):
    registered = register()
    at = (registered.name, registered.version)
    for record in ("{", "[]", '{"model": 1}'):
        mlflow.MlflowClient().set_model_version_tag(*at, "mlflow.trusttrace.lineage", record)
        with pytest.raises(CorruptFile, match=r"steer\.tiny\.toxicity/1: the tag .* delete the version"):
            VectorStore().get(*at)


def test_a_calibrations_summary_opens_the_versions_description(tracking):
    registered = register()
    measured = Calibration(-1.0, 2.0, 1.0, 1.34, (), n=9, statements_digest="s", run_id="r")
    for summary in ("**Does not work**", "**Works**"):
        VectorStore().calibrate(registered, measured, summary=summary)
    description = mlflow.MlflowClient().get_model_version(registered.name, registered.version).description
    assert description.startswith("**Works**") and "Does not work" not in description
    assert description.count("models:/ckpt.tiny/1") == 1


def test_pages_set_versions_side_by_side(tracking):
    store, client = VectorStore(), mlflow.MlflowClient()
    tested = HeldOutEffect(True, 1.0, "preference", 0.4, 0.2, 0.6, 84, 0.1, 1.02)
    first, second = register("u1"), register("u2")
    store.promote(store.calibrate(first, dataclasses.replace(MEASURED, tested=tested)), reason="the first")
    client.update_registered_model(first.name, client.get_registered_model(first.name).description + "\n\nAsk Ann.")
    better = dataclasses.replace(tested, shift=0.9, shift_low=0.7, shift_high=1.1)
    store.calibrate(second, dataclasses.replace(MEASURED, tested=better), summary="**Works**, it seems.")
    description = client.get_model_version(second.name, second.version).description
    assert description.startswith("**Works**, it seems.\n\n**Against the champion of that time, [version 1]")
    assert "preference +0.900 [0.700, 1.100] against +0.400 [0.200, 0.600] nats" in description
    assert "Against" not in client.get_model_version(first.name, first.version).description
    page = client.get_registered_model(first.name).description
    assert "Ask Ann." in page and page.count("**Measured versions**, of 2.") == 1
    assert [line[:4] for line in page.splitlines() if line.startswith("| [")] == ["| [2", "| [1"]


def test_descriptions_name_checkpoint_run_and_promotion(tracking):
    registered = register()
    client = mlflow.MlflowClient()
    version = client.get_model_version(registered.name, registered.version)
    for word in ("models:/ckpt.tiny/1", "step 64", registered.run_id, "packaged:remarks", "toxicity/auroc`: 0.9"):
        assert word in version.description
    model = client.get_registered_model(registered.name).description
    for description, number in ((version.description, f'"{registered.version}"'), (model, "VERSION")):
        assert f'set_registered_model_alias("steer.tiny.toxicity", "champion", {number})' in description
        assert "*Promote model* copies a version" in description
    assert f"-P methods=none -P vectors={registered.name}/{registered.version}`" in version.description
    assert version.run_id == registered.run_id
    assert "benign" in client.get_registered_model(registered.name).description
    assert "org/tiny" in client.get_model_version("ckpt.tiny", "1").description


def test_a_source_that_we_do_not_register_is_not_followed(tracking):
    registered = register()
    for source in ("file:///etc/passwd", "http://127.0.0.1:9/m", "s3://bucket/m", "models:/a/9/x"):
        elsewhere = dataclasses.replace(registered, model_id=source.removeprefix("models:/"))
        with pytest.raises(Mismatch, match=r"toxicity/1 has the source .*only logged models are read; register"):
            VectorStore().load(elsewhere)


def test_what_is_no_reference_is_refused(tracking):
    for reference in (
        "/etc/passwd",
        "ckpt.tiny/1",
        "steer.tiny.toxicity",
        "steer.o'x.y/1",
        "steer.a.b/" + "9" * 30,
    ):
        with pytest.raises(InvalidInput, match=r"steer.<model>.<dimension>"):
            VectorStore().resolve(reference)


def test_a_file_that_disagrees_with_its_tags_is_refused(tracking):
    registered = register()
    mlflow.MlflowClient().set_model_version_tag(registered.name, registered.version, "layer", "7")
    with pytest.raises(Mismatch, match=r"layer=7.*says 1"):
        VectorStore().load(VectorStore().resolve(registered.uri))
    with pytest.raises(Mismatch, match=r"576"):
        VectorStore().load(registered, d_model=576)


def test_stages_tell_checkpoints_of_one_step_apart(tracking):
    names = ("stage1-step8-tokens1B", "stage2-ingredient1-step8", "main")
    series = series_of("olmo", "org/olmo", names)
    registered = [CheckpointStore().register(checkpoint, checkpoint.revision) for checkpoint in series]
    client = mlflow.MlflowClient()
    for alias, version in zip(("stage1-step-8", "stage2-ingredient1-step-8", "main"), registered, strict=True):
        assert str(client.get_model_version_by_alias("ckpt.olmo", alias).version) == version.version
    assert [version.checkpoint for version in reversed(CheckpointStore().list("olmo"))] == list(series)
    assert CheckpointStore().get("olmo", 8) == registered[0]


@contextmanager
def killed_at(call, monkeypatch):
    """What is done inside ends at this call of MLflow's client, as a process that is killed there does."""

    class Killed(Exception):
        pass

    def kill(*_args, **_kwargs):
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(f"mlflow.MlflowClient.{call}", kill)
        yield


def test_a_kill_before_registration_leaves_one_version(tracking, monkeypatch):
    with killed_at("create_model_version", monkeypatch), mlflow.start_run() as run:
        vector = make_vector("models:/ckpt.tiny/1", run.info.run_id)
        VectorStore().register(vector, None, {}, unit_digest="u1")
    assert register("u1").version == "1"


def test_a_kill_before_the_alias_is_mended(tracking, monkeypatch):
    with killed_at("set_registered_model_alias", monkeypatch):
        CheckpointStore().register(CHECKPOINT, "ab" * 32)
    assert CheckpointStore().register(CHECKPOINT, "ab" * 32).version == "1"
    assert mlflow.MlflowClient().get_model_version_by_alias("ckpt.tiny", "step-64").version in (1, "1")


def test_a_later_calibration_replaces_an_earlier_one(tracking):
    registered = register()
    assert registered.calibration is None
    points = (CalibrationPoint(0.0, 1.0, 0.0, 0.0, 0.0),)
    for high in (2.0, 3.0):
        measured = Calibration(-1.0, high, 1.0, 1.34, points, n=9, statements_digest="s", run_id="r")
        assert VectorStore().calibrate(registered, measured).calibration == measured
    (listed,) = VectorStore().list("tiny")
    assert listed.calibration == measured
    assert listed.tags["recommended_strength"] == "1"


def test_the_logged_model_names_its_version_once(tracking):
    registered = register()
    tags = mlflow.MlflowClient().get_logged_model(registered.model_id).tags
    links = [(link["name"], str(link["version"])) for link in json.loads(tags["mlflow.modelVersions"])]
    assert links == [("steer.tiny.toxicity", "1")]
    seen = {key for key in tags if not key.startswith("mlflow.")}
    assert seen == {"dimension", "layer", "checkpoint", "checkpoint_step", "method"}
    assert json.loads(tags["mlflow.trusttrace.lineage"])["unit_digest"] == "u1"


def test_files_of_a_local_registry_are_written_in_their_place(tracking, monkeypatch):
    register("u1")
    monkeypatch.setattr(LocalArtifactRepository, "log_artifacts", None)
    registered = register("u2")
    vector, probe = VectorStore().load_with_probe(registered)
    assert vector.scale == 2.0 and probe is not None


def test_champion_is_an_alias_with_its_reason(tracking):
    register("u1")
    second = register("u2")
    VectorStore().promote(second, reason="better on validation")
    champion = VectorStore().resolve("steer.tiny.toxicity@champion")
    assert champion.version == "2"
    assert champion.tags["champion_because"] == "better on validation"
    assert champion.aliases == ("champion",)
    assert [version.aliases for version in VectorStore().list("tiny")] == [("champion",), ()]
    assert VectorStore().resolve("models:/steer.tiny.toxicity/1").version == "1"


def test_vectors_are_listed_by_model_and_dimension(tracking):
    register("u1")
    register("u2", dimension="privacy")
    register("u3", model="tiny2")
    assert {version.name for version in VectorStore().list("tiny")} == {"steer.tiny.toxicity", "steer.tiny.privacy"}
    assert [version.name for version in VectorStore().list("tiny", "privacy")] == ["steer.tiny.privacy"]
    assert VectorStore().list("other") == []


def test_a_version_registered_by_hand_is_refused(tracking):
    client = mlflow.MlflowClient()
    model = mlflow.create_external_model(name="by-hand")
    for name in ("steer.tiny.privacy", "ckpt.tiny"):
        client.create_registered_model(name)
        client.create_model_version(name, f"models:/{model.model_id}", model_id=model.model_id)
    assert VectorStore().list("tiny") == []
    assert CheckpointStore().list("tiny") == []
    with pytest.raises(Mismatch, match=r"privacy/1 lacks the tags checkpoint"):
        VectorStore().resolve("steer.tiny.privacy/1")
