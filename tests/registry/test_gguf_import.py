import mlflow
import numpy as np
import pytest
from gguf import GGUFWriter

from registry import gguf_import
from registry.checkpoint_store import CheckpointStore
from registry.checkpoints import Checkpoint
from registry.errors import InvalidInput, Mismatch
from registry.gguf_import import import_gguf
from registry.store import VectorStore
from tests.mutants import mutant
from tests.registry.store_behaviour import register


@pytest.fixture
def foreign(tmp_path):
    """A file of two layers as repeng writes them, without lineage."""
    path = tmp_path / "foreign.gguf"
    writer = GGUFWriter(path, "controlvector")
    for layer in (1, 2):
        writer.add_tensor(f"direction.{layer}", np.array([3.0, 4.0], np.float32) * layer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path.read_bytes()


def test_all_layers_become_one_version_with_lineage(tracking, foreign):
    checkpoint = CheckpointStore().register(Checkpoint("tiny", "org/tiny", "main", 0), "ab" * 32)
    with mlflow.start_run() as run:
        first = import_gguf(foreign, "toxicity", checkpoint)
        again = import_gguf(foreign, "toxicity", checkpoint)
    assert (first.uri, first.layers, first.tags["layer"]) == (again.uri, (1, 2), "1-2")
    with pytest.raises(InvalidInput, match="steers layers 1-2; read its `layers`"):
        _ = first.layer
    vector = VectorStore().load(first)
    np.testing.assert_allclose(list(vector.offsets(1.0).values()), [[3.0, 4.0], [6.0, 8.0]], rtol=1e-6)
    assert (vector.lineage.run_id, vector.lineage.weights_digest) == (run.info.run_id, "ab" * 32)
    assert first.checkpoint_uri == checkpoint.uri


def test_an_import_without_a_run_is_refused(tracking, foreign):
    checkpoint = CheckpointStore().register(Checkpoint("tiny", "org/tiny", "main", 0), "ab" * 32)
    with pytest.raises(InvalidInput, match=r"with mlflow.start_run"):
        import_gguf(foreign, "toxicity", checkpoint)


@pytest.mark.parametrize("dimension", ["Toxicity", "self-harm", "a/b", ""])
def test_what_is_no_name_of_a_dimension_is_refused(tracking, foreign, dimension):
    checkpoint = CheckpointStore().register(Checkpoint("tiny", "org/tiny", "main", 0), "ab" * 32)
    with mlflow.start_run(), pytest.raises(InvalidInput, match="must be a lower-case word, not"):
        import_gguf(foreign, dimension, checkpoint)


@pytest.fixture
def wide(tmp_path):
    """A file of one layer, three wide."""
    path = tmp_path / "wide.gguf"
    writer = GGUFWriter(path, "controlvector")
    writer.add_tensor("direction.1", np.array([1.0, 2.0, 2.0], np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path.read_bytes()


def test_another_width_than_that_of_the_same_weights_is_refused(tracking, foreign, wide):
    version = register()
    checkpoint = CheckpointStore().get("tiny", 64)
    with mlflow.start_run():
        with pytest.raises(Mismatch, match=rf"is 3 wide and {version.uri}, of the same weights, is 2: give the check"):
            import_gguf(wide, "privacy", checkpoint)
        assert import_gguf(foreign, "privacy", checkpoint).tags["d_model"] == "2"
        with mutant(gguf_import, "!= str(vector.d_model)", '== ""') as changed:
            assert changed.import_gguf(wide, "privacy", checkpoint).tags["d_model"] == "3"


def test_other_weights_may_have_another_width(tracking, wide):
    register()
    checkpoint = CheckpointStore().register(Checkpoint("tiny", "org/tiny", "main", 0), "ef" * 32)
    with mlflow.start_run():
        assert import_gguf(wide, "privacy", checkpoint).tags["d_model"] == "3"
