"""GGUF files with the weights of a quantised one in a wider type, for llama.cpp to compute with."""

import os
from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType, GGUFWriter, LlamaFileType

from registry.cache import cache_root, writable
from serving.model.content import sha256_of

WIDTHS = {
    "bfloat16": (GGMLQuantizationType.BF16, LlamaFileType.MOSTLY_BF16),
    "float32": (GGMLQuantizationType.F32, LlamaFileType.ALL_F32),
}
REPLACED = ("general.architecture", "general.file_type", "general.quantization_version")


def widened(path: Path, width: str) -> Path:
    """The file at ``path`` with matrices in ``width``, of ``WIDTHS``, and vectors in float32; written once."""
    target = cache_root() / "bench" / f"{sha256_of(path)[:32]}-{width}.gguf"
    if target.is_file():
        return target
    scratch = writable(target.parent) / f".{target.name}.{os.getpid()}"
    _write(GGUFReader(path), scratch, *WIDTHS[width])
    os.rename(scratch, target)
    return target


def _write(source: GGUFReader, target: Path, matrices: GGMLQuantizationType, file_type: LlamaFileType) -> None:
    writer = GGUFWriter(target, source.fields["general.architecture"].contents())
    writer.add_file_type(file_type)
    for name, field in source.fields.items():
        if not name.startswith("GGUF.") and name not in REPLACED:
            kind, *inner = field.types
            writer.add_key_value(name, field.contents(), kind, inner[0] if kind == GGUFValueType.ARRAY else None)
    for tensor in source.tensors:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        kind = matrices if values.ndim > 1 else GGMLQuantizationType.F32
        writer.add_tensor(tensor.name, gguf.quants.quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
