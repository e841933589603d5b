import mlflow
import numpy as np
import pytest
from gguf import GGUFWriter

from registry.checkpoint_store import CheckpointStore
from registry.checkpoints import Checkpoint
from registry.errors import InvalidInput
from registry.gguf_import import import_gguf
from registry.store import VectorStore


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
