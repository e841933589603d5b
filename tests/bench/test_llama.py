"""`make bench-llama` where llama.cpp is not installed: the files that it is given, and what is said."""

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFReader

from registry.errors import InvalidInput, NotFound
from tests.bench import llama
from tests.bench.wide_gguf import widened

COLUMNS = 64
"""Two blocks of Q4_1."""


@pytest.fixture
def quantised(tmp_path):
    rng = np.random.default_rng(0)
    path = tmp_path / "model.Q4_1.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q4_1)
    writer.add_block_count(2)
    writer.add_token_list(["a", "ü", "c"])
    writer.add_rope_freq_base(1e5)
    matrix = gguf.quants.quantize(rng.standard_normal((3, COLUMNS)).astype(np.float32), GGMLQuantizationType.Q4_1)
    writer.add_tensor("blk.0.attn_q.weight", matrix, raw_dtype=GGMLQuantizationType.Q4_1)
    writer.add_tensor("blk.0.attn_norm.weight", rng.standard_normal(COLUMNS).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def values(path):
    return {tensor.name: gguf.quants.dequantize(tensor.data, tensor.tensor_type) for tensor in GGUFReader(path).tensors}


@pytest.mark.parametrize(("width", "relative"), [("float32", 0.0), ("bfloat16", 2.0**-8)])
def test_a_wide_file_holds_the_weights_of_the_quantised_one(quantised, cache, width, relative):
    path = widened(quantised, width)
    before, after = values(quantised), values(path)
    for name, expected in before.items():
        bound = relative if expected.ndim > 1 else 0.0
        np.testing.assert_allclose(after[name], expected, rtol=bound, atol=0)
    kept, written = (
        {name: field.contents() for name, field in GGUFReader(file).fields.items() if not name.startswith("GGUF.")}
        for file in (quantised, path)
    )
    assert written.pop("general.file_type") != kept.pop("general.file_type")
    assert written == kept


def test_a_wide_file_is_written_once(quantised, cache):
    written = widened(quantised, "bfloat16")
    before = written.stat().st_mtime_ns
    assert widened(quantised, "bfloat16") == written and written.stat().st_mtime_ns == before
    assert widened(quantised, "float32") != written


def test_a_lack_of_the_library_is_said(monkeypatch, tmp_path):
    monkeypatch.setattr(llama, "LIBRARY", tmp_path / "nothing")
    with pytest.raises(NotFound, match="`make bench-llama` installs llama.cpp"), llama.llama_cpp(1):
        pass


def test_a_model_of_other_files_is_refused(series_directory, cache):
    with pytest.raises(InvalidInput, match="no GGUF file"):
        llama.main(["--model", str(series_directory)])
