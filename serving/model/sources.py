"""From what a user calls a model to the series of its pre-training checkpoints.

A name is one of: a packaged model (``smollm2``), a directory holding one Hugging Face checkpoint, a directory of such
directories (a checkpoint series), a GGUF file, or a hub id, whose revisions are its checkpoints.
"""

import json
from pathlib import Path

from httpx2 import HTTPError
from huggingface_hub import HfApi, scan_cache_dir
from huggingface_hub.errors import CacheNotFound, HfHubHTTPError, OfflineModeIsEnabled, RepositoryNotFoundError

from registry.checkpoints import MAIN, Checkpoint, CheckpointSeries, model_short_name, series_of
from registry.errors import InvalidInput, Unavailable, unknown_name
from registry.revisions import Position, parse_position

CONFIG = "config.json"
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
    return series_of(short, repo, _hub_revisions(repo))


def _lone(name: str, repo: str, revision: str) -> CheckpointSeries:
    position = parse_position(revision) or Position(0)
    checkpoint = Checkpoint(name, repo, revision, position.step, position.stage, position.ingredient, position.tokens)
    return CheckpointSeries(name, (checkpoint,))


def _series_on_disk(path: Path, name: str | None) -> CheckpointSeries:
    if path.is_file():
        if path.suffix != ".gguf":
            raise InvalidInput(f"{path} is not a .gguf file; give a GGUF file, a checkpoint directory or a hub id")
        return _lone(name or model_short_name(path.stem), str(path), MAIN)
    short = name or model_short_name(path.name)
    on_top = (path / CONFIG).is_file()
    members = sorted(child.name for child in path.iterdir() if (child / CONFIG).is_file())
    if on_top and not any(map(parse_position, members)):
        return _lone(short, str(path), MAIN)
    if not members:
        raise InvalidInput(
            f"{path} holds neither a config.json nor directories with one; save checkpoints there with "
            "save_pretrained, one directory a step, such as step_001000"
        )
    if not on_top:
        return series_of(short, str(path), members)
    if MAIN in members:
        raise InvalidInput(f"{path} holds a model and a directory main with another; give the path of one of them")
    return series_of(short, str(path), (*members, MAIN), ends_in_main=True, end_step=_steps_trained(path))


def _steps_trained(path: Path) -> int:
    """What the Trainer of transformers says that the model at the top of its output was trained for."""
    try:
        return int(json.loads((path / "trainer_state.json").read_text())["global_step"])
    except (OSError, KeyError, TypeError, ValueError):
        return 0


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
