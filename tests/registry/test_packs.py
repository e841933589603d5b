"""Packs: written as equal bytes, verified file by file, taken out of one registry and into another."""

import dataclasses
import hashlib
import json
import os
import shutil
from pathlib import Path

import mlflow
import numpy as np
import pytest
import yaml

from registry import pack_folder
from registry.calibration import Calibration, CalibrationPoint, HeldOutEffect
from registry.checkpoint_store import CheckpointStore
from registry.checkpoints import Checkpoint
from registry.errors import CorruptFile, InvalidInput, Mismatch, NotFound, Unavailable
from registry.examples import Example
from registry.gguf import vector_from_gguf
from registry.mlflow_client import connect
from registry.pack_exchange import import_pack, import_run, is_wanted, packed_vectors
from registry.pack_folder import MANIFEST, pack_files, read_pack, write_pack
from registry.packs import Pack, PackedModel, PackedVector
from registry.records import text_verdict_tags
from registry.store import VectorStore
from registry.vectors import Direction, Lineage, LinearProbe, SteeringVector
from registry.verdicts import TextVerdict
from tests.conftest import new_store, use_store
from tests.mutants import mutant
from tests.probe_qualities import GOOD, POOR
from tests.registry.store_behaviour import REFUTED

DIGEST, OTHER = "ab" * 32, "ef" * 32
CHECKPOINT = Checkpoint("tiny", "/home/somebody/series/tiny", "step_64", 64)
MODEL = PackedModel("tiny", "tiny", "step_64", 64, DIGEST, 2, 4, "llama")
HERE = dataclasses.replace(CHECKPOINT, repo="/models/tiny")
TESTED = HeldOutEffect(True, 2.0, "toxic continuations", 0.12, 0.05, 0.19, 120, 0.02, 1.04, unsteered=0.3)
CALIBRATION = Calibration(
    -2.0, 4.0, 2.0, 1.34, (CalibrationPoint(2.0, 1.05, 0.4, 0.3, 0.5),), 96, "s1", "r1", "toxic continuations", TESTED
)
EXAMPLE = Example("You are", False, 2.0, 24, " a <b>fool</b> | *indeed*", " kind")


def register(dimension, *, layer=1, seed=0, calibration=CALIBRATION, digest=DIGEST, promote=True):
    """A version in the registry that MLflow points to, with a probe, a metric and a tag of its own."""
    checkpoint = CheckpointStore().register(CHECKPOINT, digest)
    layers = (layer,) if isinstance(layer, int) else layer
    direction = np.array([0.6, 0.8], np.float32)
    with mlflow.start_run() as run:
        place = ("tiny", checkpoint.uri, 64, "step_64", digest)
        lineage = Lineage(*place, "cd" * 32, "packaged:test", "mass-mean", run.info.run_id, "c1", 80)
        turned = (Direction(each, np.roll(direction, rank), 0.5, 1.0, 0.0) for rank, each in enumerate(layers))
        vector = SteeringVector(dimension, tuple(turned), lineage)
        probe = LinearProbe(dimension, layers[0], 3 * direction, 0.1, lineage)
        store = VectorStore()
        version = store.register(
            vector, probe, {f"{dimension}/auroc": 0.9}, unit_digest=f"{dimension}-{seed}", tags={"reviewed": "yes"}
        )
    if calibration:
        version = store.calibrate(version, calibration, summary="**Works** on held-out toxic continuations.")
    if promote:
        store.promote(version, reason="calibrated: best on validation")
    return store.get(version.name, version.version)


@dataclasses.dataclass(frozen=True)
class Source:
    """A registry with two versions, and the pack of them."""

    root: Path
    pack: Pack


@pytest.fixture(scope="module")
def source(empty_database, tmp_path_factory) -> Source:
    root = tmp_path_factory.mktemp("source")
    with pytest.MonkeyPatch.context() as patch:
        new_store(empty_database, root, patch)
        versions = [register("toxicity"), register("privacy", layer=2, calibration=None)]
        return Source(root, packed_vectors(MODEL, versions, {"toxicity": EXAMPLE}))


@pytest.fixture
def pack(source, tracking) -> Pack:
    return source.pack


@pytest.fixture
def stored(pack, tmp_path):
    return write_pack(pack, tmp_path / "packs" / "tiny")


@pytest.fixture
def elsewhere_alone(empty_database, tmp_path, monkeypatch):
    """MLflow pointed to an empty registry, without packs from another one."""
    (tmp_path / "alone").mkdir()
    return new_store(empty_database, tmp_path / "alone", monkeypatch)


@pytest.fixture
def elsewhere(stored, empty_database, tmp_path):
    """MLflow pointed to another, empty registry."""
    (tmp_path / "elsewhere").mkdir()
    shutil.copy(empty_database, tmp_path / "elsewhere" / "mlflow.db")
    uri = f"sqlite:///{tmp_path / 'elsewhere' / 'mlflow.db'}"
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    mlflow.create_experiment("trusttrace", artifact_location=(tmp_path / "elsewhere" / "artifacts").as_uri())
    mlflow.set_experiment("trusttrace")
    return uri


def imported(stored, checkpoint=HERE, digest=DIGEST):
    with import_run(stored):
        return import_pack(stored, checkpoint, digest)


def test_equal_packs_are_equal_bytes_and_read_back_whole(pack, stored, tmp_path):
    again = write_pack(read_pack(stored.directory).pack, tmp_path / "again")
    assert again.digest == stored.digest == read_pack(stored.directory).digest
    files = {str(path.relative_to(again.directory)): path.read_bytes() for path in again.directory.rglob("*.*")}
    assert files == pack_files(pack)
    assert sorted(files) == [
        "README.md", "gguf/toxicity.gguf", "pack.json", "vectors/privacy/probe.safetensors",
        "vectors/privacy/record.json", "vectors/privacy/vector.safetensors", "vectors/toxicity/probe.safetensors",
        "vectors/toxicity/record.json", "vectors/toxicity/vector.safetensors",
    ]  # fmt: skip
    assert b"/home/somebody" not in b"".join(files.values())


def test_another_value_anywhere_is_another_digest(pack, stored, tmp_path):
    privacy, toxicity = pack.vectors
    changed = dataclasses.replace(toxicity, because="another reason")
    other = write_pack(Pack(pack.model, (privacy, changed)), tmp_path / "other")
    assert other.digest != stored.digest


def test_the_card_tells_effects_examples_and_lineage(pack):
    text = pack_files(pack)["README.md"].decode()
    front = yaml.safe_load(text.split("---")[1])
    assert front["tags"][-2:] == ["privacy", "toxicity"]
    assert "| toxicity | yes | 2 | toxic continuations: 0.120 [0.050, 0.190] of 0.300 (n = 120) | 0.020 |" in text
    assert "| privacy | not tested |" in text
    assert "steer.tiny.toxicity/1" in text
    assert "<b>" not in text
    assert "&lt;b>" in text


def test_a_verdict_of_what_is_written_decides_and_travels(pack, stored, elsewhere, tmp_path):
    change = (0.30, 0.29, -0.01, -0.05, 0.03)
    controls = (39, -0.02, 0.6, 1.05, 1.04, 1.06)
    judged = TextVerdict(False, "toxic continuations", 2.0, *change, 0.07, 0.1, 200, 0.4, *controls, "r2")
    privacy, toxicity = pack.vectors
    toxicity = dataclasses.replace(toxicity, tags={**toxicity.tags, **text_verdict_tags(judged)})
    files = pack_files(Pack(pack.model, (privacy, toxicity)))
    assert "gguf/toxicity.gguf" not in files
    effect = "toxic continuations, written: 0.300 to 0.290, a fall of 0.010 [-0.030, 0.050] (n = 200, p = 0.4000)"
    row = f"| toxicity | no | 0 | {effect} |"
    assert row in files["README.md"].decode()
    imported(write_pack(Pack(pack.model, (privacy, toxicity)), tmp_path / "judged"))
    champion = VectorStore().resolve("steer.tiny.toxicity@champion")
    assert champion.text_verdict == judged
    assert champion.recommended == 0


def test_a_probe_of_answers_travels_with_its_quality(pack, elsewhere, tmp_path):
    privacy, toxicity = pack.vectors
    of_answers = dataclasses.replace(toxicity.probe, window=8, quality=GOOD)
    poor = dataclasses.replace(privacy.probe, window=8, quality=POOR)
    vectors = (dataclasses.replace(privacy, probe=poor), dataclasses.replace(toxicity, probe=of_answers))
    stored = write_pack(Pack(pack.model, vectors), tmp_path / "monitored")
    text = (stored.directory / "README.md").read_text()
    assert (
        "| toxicity | yes | 1 | 8 | 0.800 [0.750, 0.850] (n = 200) | 0.900 | 0.700 | 0.550 | 0.100 | 0.200 | 60%, 5% |"
        in text
    )
    assert "| privacy | no | 2 | 8 | 0.620" in text and "## Monitors" in text
    assert "## Monitors" not in pack_files(pack)["README.md"].decode()
    imported(read_pack(stored.directory))
    store = VectorStore()
    champion = store.resolve("steer.tiny.toxicity@champion")
    probe = store.load_with_probe(champion)[1]
    assert (probe.window, probe.quality) == (8, GOOD)
    told = connect().get_model_version(champion.name, champion.version).description
    assert f"Monitors read answers by its probe, 8 tokens at once: {GOOD.describe()}." in told
    other = connect().get_model_version("steer.tiny.privacy", "1").description
    assert f"Its probe of answers is not used, 8 tokens at once: {POOR.describe()}." in other


def test_the_control_vector_does_what_is_recommended(pack):
    vector = vector_from_gguf(pack_files(pack)["gguf/toxicity.gguf"])
    np.testing.assert_allclose(vector.offset(1.0), pack.vectors[1].vector.offset(2.0), rtol=1e-6)


def test_versions_arrive_as_champions_with_their_tags(pack, stored, elsewhere):
    result = imported(read_pack(stored.directory))
    assert result.registered == result.promoted == ("privacy", "toxicity")
    store = VectorStore()
    toxicity = store.resolve("steer.tiny.toxicity@champion")
    vector, probe = store.load_with_probe(toxicity)
    told = pack.vectors[1]
    np.testing.assert_array_equal(vector.direction, told.vector.direction)
    np.testing.assert_array_equal(probe.weights, told.probe.weights)
    assert toxicity.calibration == CALIBRATION
    assert toxicity.example == EXAMPLE
    assert toxicity.tags["reviewed"] == "yes"
    assert toxicity.tags["imported_from"] == "models:/steer.tiny.toxicity/1"
    assert toxicity.tags["pack_digest"] == stored.digest
    assert toxicity.tags["champion_because"] == "calibrated: best on validation"
    assert toxicity.run_id == told.vector.lineage.run_id
    (checkpoint,) = CheckpointStore().list("tiny")
    assert (checkpoint.checkpoint, checkpoint.uri) == (HERE, toxicity.checkpoint_uri)
    description = connect().get_model_version(toxicity.name, toxicity.version).description
    assert description.startswith("**Works** on held-out toxic continuations.")
    assert f"Imported from the pack `{stored.digest[:12]}`" in description
    assert "`toxicity/auroc`: 0.9" in description


def test_what_was_imported_is_exported_as_the_same_vectors(pack, stored, elsewhere):
    versions = imported(stored).vectors
    again = packed_vectors(MODEL, versions, {"toxicity": EXAMPLE})
    assert pack_files(again) == pack_files(pack)


def test_a_second_import_changes_nothing(stored, elsewhere):
    first = imported(stored)
    second = imported(stored)
    assert first.changed
    assert not second.changed
    assert [vector.uri for vector in second.vectors] == [vector.uri for vector in first.vectors]
    assert len(VectorStore().list("tiny")) == 2


def test_an_import_that_was_cut_short_goes_on(stored, elsewhere, monkeypatch):
    promote = VectorStore.promote

    def fail(store, version, **how):
        promote(store, version, **how)
        raise Unavailable("the machine went away")

    with monkeypatch.context() as patched, pytest.raises(Unavailable):
        patched.setattr(VectorStore, "promote", fail)
        imported(stored)
    assert VectorStore().dimensions("tiny") == ("privacy",)
    assert is_wanted(VectorStore(), stored)
    result = imported(stored)
    assert result.registered == result.promoted == ("toxicity",)
    assert not is_wanted(VectorStore(), stored)


def test_what_was_deleted_after_an_import_stays_deleted(stored, elsewhere):
    assert is_wanted(VectorStore(), stored)
    imported(stored)
    connect().delete_registered_model("steer.tiny.toxicity")
    assert not is_wanted(VectorStore(), stored)


def test_what_text_refuted_since_is_no_champion_again(stored, elsewhere):
    store = VectorStore()
    first = next(version for version in imported(stored).vectors if version.calibration is not None)
    verdict = dataclasses.replace(REFUTED, strength=first.calibration.recommended)
    store.demote(store.judge(first, verdict))
    again = imported(stored)
    assert first.dimension not in again.promoted
    assert store.get(first.name, first.version).aliases == ()


def test_a_running_champion_stays(stored, elsewhere):
    own = register("toxicity", seed=7)
    assert not is_wanted(VectorStore(), stored)
    result = imported(stored)
    assert result.registered == ("privacy", "toxicity")
    assert result.promoted == ("privacy",)
    assert result.kept["toxicity"].version == own.version
    assert VectorStore().resolve("steer.tiny.toxicity@champion").version == own.version


def test_back_in_its_own_registry_it_is_there_already(source, stored, tmp_path, monkeypatch):
    shutil.copy(source.root / "mlflow.db", tmp_path)
    use_store(tmp_path, monkeypatch)
    assert not imported(stored).changed


@pytest.mark.parametrize(
    ("checkpoint", "digest", "message"),
    [
        (HERE, OTHER, f"for weights {DIGEST[:12]} of tiny .* and tiny has {OTHER[:12]}"),
        (dataclasses.replace(HERE, model="big"), DIGEST, "named tiny and these weights are named big here: .*tiny="),
    ],
)
def test_another_model_is_refused_by_name(stored, elsewhere, checkpoint, digest, message):
    with pytest.raises(Mismatch, match=message):
        imported(stored, checkpoint, digest)
    assert VectorStore().dimensions("tiny") == ()


def test_a_vector_of_several_layers_stays_whole_in_a_pack(tracking, tmp_path):
    version = register("toxicity", layer=(1, 3))
    assert (version.tags["layer"], version.layers) == ("1,3", (1, 3))
    stored = write_pack(packed_vectors(MODEL, [version], {}), tmp_path / "pack")
    (told,) = read_pack(stored.directory).pack.vectors
    whole = vector_from_gguf((stored.directory / "gguf" / "toxicity.gguf").read_bytes())
    for layer, offset in told.vector.offsets(2.0).items():
        np.testing.assert_allclose(whole.offsets(1.0)[layer], offset, rtol=1e-6)
    card = (stored.directory / "README.md").read_text()
    assert "| 1,3 |" in card and "`direction.<layer>` and `scale.<layer>` of each" in card
    mlflow.MlflowClient().delete_registered_model(version.name)
    with mlflow.start_run():
        (imported,) = import_pack(stored, HERE, DIGEST).vectors
    vector, probe = VectorStore().load_with_probe(imported)
    assert (vector.layers, probe.layer) == ((1, 3), 1)
    for layer, offset in told.vector.offsets(1.0).items():
        np.testing.assert_array_equal(vector.offsets(1.0)[layer], offset)


def test_an_import_needs_a_run(stored):
    with pytest.raises(InvalidInput, match="inside `with mlflow"):
        import_pack(stored, HERE, DIGEST)


@pytest.fixture
def folder(tmp_path):
    """A pack that is in no registry, as a folder."""
    direction = np.array([0.6, 0.8], np.float32)
    place = ("tiny", "models:/ckpt.tiny/1", 64, "step_64", DIGEST)
    lineage = Lineage(*place, "cd" * 32, "packaged:test", "mass-mean", "r1", "c1", 80)
    vectors = []
    for dimension, layer in (("privacy", 2), ("toxicity", 1)):
        vector = SteeringVector.at_layer(dimension, direction, 0.5, layer, lineage, 1.0, 0.0)
        probe = LinearProbe(dimension, layer, 3 * direction, 0.1, lineage)
        vectors.append(PackedVector(vector, probe, CHECKPOINT, "u1", "models:/steer.tiny.toxicity/1", CALIBRATION))
    return write_pack(Pack(MODEL, tuple(vectors)), tmp_path / "packs" / "tiny")


def edited(stored, change):
    """The folder with a changed manifest."""
    path = stored.directory / MANIFEST
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))
    return stored.directory


def listing(name, **file):
    return lambda manifest: manifest["files"].update({name: {"sha256": DIGEST, "bytes": 1} | file})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda manifest: manifest.update(version=2), "version 2, and this program reads .*version 1; export"),
        (lambda manifest: manifest.update(format="other"), "format 'other'"),
        (listing("../mlflow.db"), r"'\.\./mlflow\.db', which is no file of a pack"),
        (listing("/etc/passwd"), "'/etc/passwd', which is no file of a pack"),
        (listing("vectors/../../x"), "no file of a pack"),
        (listing("pack.json"), "'pack.json', which is no file of a pack"),
        (listing("missing.json"), "lacks missing.json"),
        (lambda manifest: [listing(f"file-{n}")(manifest) for n in range(300)], "no pack has more than 257"),
        (lambda manifest: manifest.pop("model"), "it lacks 'model'"),
        (lambda manifest: manifest["model"].update(d_model=3), "has width 2 .* width 3"),
        (lambda manifest: manifest["model"].update(n_layers=2), "at layer 2 and tiny has width 2 and 2 layers"),
        (lambda manifest: manifest["model"].update(weights_digest=OTHER), "was made for weights abababababab"),
        (lambda manifest: manifest["model"].update(name="../up"), "a pack's model has a name"),
        (lambda manifest: manifest.update(vectors=[]), "a pack has 1 to 64 vectors"),
        (lambda manifest: manifest.update(vectors=["toxicity", "toxicity"]), "one a dimension"),
    ],
)
def test_a_manifest_that_says_something_else_is_refused(folder, change, message):
    with pytest.raises(CorruptFile, match=message):
        read_pack(edited(folder, change))


FILES = ("README.md", "gguf/toxicity.gguf", "vectors/toxicity/record.json", "vectors/toxicity/probe.safetensors")


@pytest.mark.parametrize("name", FILES)
def test_a_bit_that_changed_anywhere_is_noticed(folder, name):
    path = folder.directory / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(CorruptFile, match=f"{name} of .* its SHA-256 differs"):
        read_pack(folder.directory)


def test_reading_without_comparing_digests_would_be_noticed(folder):
    (folder.directory / "README.md").write_bytes(b"#" * (folder.directory / "README.md").stat().st_size)
    compared = '(len(content), _sha256(content)) != (listed["bytes"], listed["sha256"])'
    with mutant(pack_folder, compared, 'len(content) != listed["bytes"]') as careless:
        assert careless.read_pack(folder.directory).digest == folder.digest
    with pytest.raises(CorruptFile):
        read_pack(folder.directory)


@pytest.mark.parametrize("tag", ["text_verdict", "joint_limit"])
def test_a_tag_that_cannot_be_read_is_refused(folder, tag):
    name = "vectors/privacy/record.json"
    record = json.loads((folder.directory / name).read_text())
    record["tags"][tag] = "[]"
    content = json.dumps(record).encode()
    (folder.directory / name).write_bytes(content)
    listed = listing(name, sha256=hashlib.sha256(content).hexdigest(), bytes=len(content))
    with pytest.raises(CorruptFile, match="cannot be read"):
        read_pack(edited(folder, listed))


def test_a_link_out_of_the_folder_is_refused(folder, tmp_path):
    card = folder.directory / "README.md"
    shutil.copy(card, tmp_path / "outside.md")
    card.unlink()
    os.symlink(tmp_path / "outside.md", card)
    with pytest.raises(CorruptFile, match="leads out of the folder"):
        read_pack(folder.directory)


def test_a_file_that_is_too_large_is_not_read(folder, monkeypatch):
    monkeypatch.setattr(pack_folder, "LARGEST_FILE_BYTES", 100)
    with pytest.raises(CorruptFile, match="has more than 100 bytes"):
        read_pack(folder.directory)


def test_a_folder_without_a_pack_is_said_in_a_sentence(tmp_path):
    with pytest.raises(NotFound, match=r"holds no pack\.json, so it is no pack; fetch .* -e export "):
        read_pack(tmp_path)


def test_nothing_but_a_pack_is_replaced(folder, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.tex").write_text("years")
    with pytest.raises(InvalidInput, match="holds something that is no pack"):
        write_pack(folder.pack, tmp_path / "thesis")
    older = Pack(folder.pack.model, folder.pack.vectors[:1])
    assert write_pack(older, folder.directory).digest != folder.digest
    assert write_pack(folder.pack, folder.directory).digest == folder.digest
    assert [path.name for path in Path(folder.directory).parent.iterdir()] == ["tiny"]


def recorded(stored, place, value):
    """The folder with another value in the record of toxicity, its digest in the manifest."""
    name = "vectors/toxicity/record.json"
    record = json.loads((stored.directory / name).read_text())
    part = record
    for step in place[:-1]:
        part = part[step]
    part[place[-1]] = value
    content = json.dumps(record).encode()
    (stored.directory / name).write_bytes(content)
    return edited(stored, listing(name, sha256=hashlib.sha256(content).hexdigest(), bytes=len(content)))


LIMIT = '{{"strengths":{{"toxicity":2.0,"privacy":{}}},"scale":1.0,"perplexity_ratio":1.1,"kept":{{}},"run_id":"r"}}'


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("checkpoint", "step"), "64"), (("checkpoint", "repo"), 5), (("checkpoint", "tokens"), "1T"),
        (("calibration", "tested", "works"), "no"), (("calibration", "tested", "shift"), None),
        (("calibration", "n"), "x"), (("metrics",), {"a": float("nan")}), (("metrics",), {"a": "1"}),
        (("tags",), {"mlflow.note.content": "x"}), (("tags",), {"joint_limit": LIMIT.format("NaN")}),
        (("tags",), {"joint_limit": LIMIT.format("Infinity")}), (("unit_digest",), None),
    ],
)  # fmt: skip
def test_a_record_with_another_kind_of_value_is_refused(folder, place, value):
    with pytest.raises(CorruptFile):
        read_pack(recorded(folder, place, value))


@pytest.mark.parametrize(
    "change", [{"repo": 5}, {"revision": None}, {"d_model": "2"}, {"n_layers": True}, {"architecture": ["llama"]}]
)
def test_a_model_of_other_types_is_refused(folder, change):
    with pytest.raises(CorruptFile, match="is no pack that can be read"):
        read_pack(edited(folder, lambda manifest: manifest["model"].update(change)))


@pytest.mark.parametrize(
    ("place", "value"),
    [(("tags",), {"a?b": "x"}), (("metrics",), {"toxicity/a\nb": 1.0}), (("tags",), {"x" * 300: "y"})],
)
def test_what_mlflow_refuses_of_a_pack_is_said(folder, elsewhere_alone, place, value):
    stored = read_pack(recorded(folder, place, value))
    with pytest.raises(CorruptFile, match=r"for toxicity that MLflow does not register \(.*\): fetch"):
        imported(stored)


def test_files_of_others_in_a_pack_are_not_deleted(folder):
    (folder.directory / ".git").mkdir()
    (folder.directory / ".git" / "config").write_text("[core]")
    with pytest.raises(InvalidInput, match=r"files of others in it, such as \.git/config, which would be deleted"):
        write_pack(folder.pack, folder.directory)
    assert (folder.directory / ".git" / "config").is_file()
    foreign = folder.directory.parent / "npm"
    foreign.mkdir()
    (foreign / MANIFEST).write_text('{"name": "thesis"}')
    with pytest.raises(InvalidInput, match="holds something that is no pack"):
        write_pack(folder.pack, foreign)
    edited(folder, lambda manifest: manifest.update(version=9))
    shutil.rmtree(folder.directory / ".git")
    assert write_pack(folder.pack, folder.directory).digest == folder.digest


def test_the_card_commands_name_files_and_models_that_are_there(folder):
    text = (folder.directory / "README.md").read_text()
    assert "--control-vector-scaled gguf/privacy.gguf:1.0" in text and "-P model=" not in text
    privacy, toxicity = folder.pack.vectors
    untested = dataclasses.replace(privacy, calibration=None)
    text = pack_files(Pack(MODEL, (untested, toxicity)))["README.md"].decode()
    assert "--control-vector-scaled gguf/toxicity.gguf:1.0" in text and '"strengths": {"toxicity": 2}' in text
    local = dataclasses.replace(MODEL, name="mine", repo="mine")
    lineage = dataclasses.replace(privacy.vector.lineage, model="mine")
    vector = dataclasses.replace(privacy.vector, lineage=lineage)
    packed = dataclasses.replace(untested, vector=vector, probe=None)
    text = pack_files(Pack(local, (packed,)))["README.md"].decode()
    assert "-P 'pack=<this folder>' -P 'model=mine=<path of mine>'" in text
    assert "there are no control vectors for llama.cpp" in text and "gguf/" not in text
