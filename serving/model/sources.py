"""From what a user calls a model to the series of its pre-training checkpoints.

A name is one of: a packaged model (``smollm2``), a directory holding one Hugging Face checkpoint, a directory of such
directories (a checkpoint series), a GGUF file, or a hub id, whose revisions are its checkpoints.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

from httpx2 import HTTPError
from huggingface_hub import HfApi, scan_cache_dir
from huggingface_hub.errors import CacheNotFound, HfHubHTTPError, OfflineModeIsEnabled, RepositoryNotFoundError

from registry.checkpoints import Checkpoint, CheckpointSeries, model_short_name, parse_step
from registry.errors import InvalidInput, Unavailable, unknown_name

PACKAGED = ("smollm2",)
"""Models that a hash-pinned package carries: no hub is needed for them."""


def find_series(model: str, *, name: str | None = None) -> CheckpointSeries:
    """The checkpoints that ``model`` names, ordered by pre-training step.

    ``name`` overrides the short name used in the registry. ``model`` may pin a revision: ``org/name@revision``.
    Raises ``UnknownName`` for a name that is neither packaged, nor a path, nor a hub id; ``Unavailable`` when the hub
    cannot be asked; ``InvalidInput`` for a path that holds no checkpoint.
    """
    if model in PACKAGED:
        return _lone(name or model, f"packaged:{model}", "main")
    path = Path(model).expanduser()
    if path.exists():
        return _series_on_disk(path.resolve(), name)
    repo, _, revision = model.partition("@")
    if repo.count("/") != 1 or repo.startswith((".", "/", "~")) or repo.endswith("/"):
        raise unknown_name("model", model, (*PACKAGED, "tiny", "a hub id such as EleutherAI/pythia-70m", "a path"))
    short = name or model_short_name(repo)
    if revision:
        return _lone(short, repo, revision)
    return _by_revision(short, repo, _hub_revisions(repo))


def _lone(name: str, repo: str, revision: str) -> CheckpointSeries:
    step = parse_step(revision)
    return CheckpointSeries(name, (Checkpoint(name, repo, revision, 0 if step is None else step),))


def _series_on_disk(path: Path, name: str | None) -> CheckpointSeries:
    if path.is_file():
        if path.suffix != ".gguf":
            raise InvalidInput(f"{path} is not a .gguf file; give a GGUF file, a checkpoint directory or a hub id")
        return _lone(name or model_short_name(path.stem), str(path), "main")
    short = name or model_short_name(path.name)
    if (path / "config.json").is_file():
        return _lone(short, str(path), "main")
    members = [child.name for child in path.iterdir() if (child / "config.json").is_file()]
    if not members:
        raise InvalidInput(
            f"{path} holds neither a config.json nor directories with one; save checkpoints there with "
            "save_pretrained, one directory a step, such as step_001000"
        )
    return _by_revision(short, str(path), members)


def _by_revision(name: str, repo: str, revisions: Iterable[str]) -> CheckpointSeries:
    """A series from revision names: those that tell a step, or ``main`` alone when none does."""
    names = list(revisions)
    steps: Mapping[str, int | None] = {revision: parse_step(revision) for revision in names}
    stepped = [Checkpoint(name, repo, revision, step) for revision, step in steps.items() if step is not None]
    if not stepped:
        return _lone(name, repo, "main" if "main" in names or not names else names[0])
    unique = {checkpoint.step: checkpoint for checkpoint in sorted(stepped, key=lambda c: (c.step, c.revision))}
    return CheckpointSeries(name, tuple(unique.values()))


def _hub_revisions(repo: str) -> list[str]:
    """Branches and tags of a hub repository; the ones in the local cache when the hub cannot be reached."""
    try:
        refs = HfApi().list_repo_refs(repo)
    except RepositoryNotFoundError as error:
        raise Unavailable(
            f"the hub has no model {repo!r}, or it is private: check the spelling, or log in with `hf auth login`"
        ) from error
    except (HfHubHTTPError, OfflineModeIsEnabled, HTTPError, OSError) as error:
        cached = _cached_revisions(repo)
        if cached:
            return cached
        raise Unavailable(
            f"the hub could not be reached to list the revisions of {repo!r}, and no revision of it is cached; "
            f"go online, or use model=smollm2, model=tiny or a directory of checkpoints"
        ) from error
    return [ref.name for ref in (*refs.branches, *refs.tags)]


def _cached_revisions(repo: str) -> list[str]:
    try:
        cache = scan_cache_dir()
    except CacheNotFound:
        return []
    return [
        ref
        for cached in cache.repos
        if cached.repo_id == repo and cached.repo_type == "model"
        for revision in cached.revisions
        for ref in revision.refs
    ]
