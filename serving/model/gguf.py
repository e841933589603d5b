"""GGUF files as Hugging Face checkpoints: converted once, kept by content."""

import os
import re
import shlex
import shutil
import tempfile
from pathlib import Path

from registry.cache import cache_root, writable
from registry.errors import InvalidInput
from serving.model.content import sha256_of
from serving.model.loading import read_gguf

_PART = re.compile(r"-\d{5}-of-(\d{5})\.gguf$")


def converted(path: Path) -> Path:
    """A directory with the checkpoint of a GGUF file, de-quantised to float32 safetensors.

    The first call converts (tens of seconds); later ones find the directory by the file's SHA-256. Raises
    ``CorruptFile`` when the file cannot be read or is not whole, ``InvalidInput`` for one part of several.
    """
    if part := _PART.search(path.name):
        first, whole = _PART.sub(f"-00001-of-{part[1]}.gguf", str(path)), _PART.sub(".gguf", str(path))
        raise InvalidInput(
            f"{path.name} is one of {int(part[1])} parts, and parts are not read; join them by "
            f"llama-gguf-split --merge {shlex.quote(first)} {shlex.quote(whole)}"
        )
    directory = cache_root() / "models" / f"{sha256_of(path)[:32]}-whole"
    if directory.is_dir():
        return directory
    scratch = Path(tempfile.mkdtemp(dir=writable(directory.parent), prefix=".converting-"))
    try:
        _convert(path, scratch)
        os.rename(scratch, directory)
    except OSError:
        if not directory.is_dir():  # not another process that was faster
            raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return directory


def _convert(path: Path, directory: Path) -> None:
    network, tokenizer = read_gguf(path)
    # A network read from GGUF declares itself quantised, and then refuses to be saved, though it no longer is.
    network.hf_quantizer = None
    if hasattr(network.config, "quantization_config"):
        del network.config.quantization_config
    network.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
