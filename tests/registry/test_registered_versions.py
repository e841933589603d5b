"""What is read from registered versions and shown on their pages, which is the same on every store."""

import dataclasses

import mlflow
import pytest

from registry.calibration import Calibration, HeldOutEffect
from registry.errors import CorruptFile, InvalidInput, Mismatch
from registry.store import VectorStore
from tests.registry.store_behaviour import MEASURED, register


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
    assert description.startswith("**Works**, it seems.\n\n**Against the champion of then, [version 1]")
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
