"""Sources of models: the series of checkpoints that a name stands for.

A name is one of: a packaged model (``smollm2``), a directory holding one Hugging Face checkpoint, a directory of such
directories (a checkpoint series), a GGUF file, a hub id, whose revisions are its checkpoints, or ``@`` and a TOML file
that lists stages in several of them (``training_line``).
"""

import json
import logging
import re
from pathlib import Path

from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined] # documented, and not in __all__

from registry.checkpoints import MAIN, Checkpoint, CheckpointSeries, LeftOut
from registry.embedded import PACKAGED
from registry.errors import InvalidInput, UnknownName, near_path, unknown_name
from registry.model_names import model_short_name, named_model
from registry.named_series import series_of
from registry.revisions import Position, parse_position
from serving.model.hub import commit_of, last_listing, list_revisions
from serving.model.training_line import join_stages, names_line, read_line

logger = logging.getLogger(__name__)

CONFIG = "config.json"
ADAPTER = "adapter_config.json"
_PAGE = re.compile(r"(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/([^/]+/[^/?#]+)(?:/tree/([^/?#]+))?")


def find_series(model: str, *, name: str | None = None) -> CheckpointSeries:
    """The checkpoints that ``model`` names, ordered by pre-training step.

    ``name`` overrides the short name used in the registry, as does a name before the model: ``seed-a=/runs/a``.
    ``model`` may pin a revision: ``org/name@revision``.
    Raises ``UnknownName`` for a name that is neither packaged, nor a path, nor a hub id; ``NotFound`` for a pinned
    revision that is not there; ``Unavailable`` when the hub cannot be asked; ``InvalidInput`` for a path that holds no
    checkpoint, and for a TOML file that lists no stages.
    """
    given, source = named_model(model)
    if given:
        return find_series(source, name=name or given)
    if names_line(model):
        return join_stages(read_line(model), find_series, name=name)
    if model in PACKAGED:
        return _lone(name or model, f"packaged:{model}", "main")
    path = Path(model).expanduser()
    if path.exists():
        return _series_on_disk(path.resolve(), name)
    repo, _, revision = model.partition("@")
    if model.startswith((".", "/", "~")):
        raise UnknownName(
            f"there is no file or directory {model!r}{near_path(model)} give a path that exists, a hub id such as "
            "EleutherAI/pythia-70m, smollm2 or tiny"
        )
    if page := _PAGE.match(model):
        pinned = f"{page[1]}@{page[2]}" if page[2] else page[1]
        raise UnknownName(f"{model!r} is the address of a page, and `model` is the id on it: give {pinned}")
    if repo.count("/") != 1 or repo.endswith("/"):
        raise unknown_name("model", model, (*PACKAGED, "tiny", "a hub id such as EleutherAI/pythia-70m", "a path"))
    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise UnknownName(f"{repo!r} is neither a path that exists nor a hub id ({error})") from error
    short = name or model_short_name(repo)
    if revision:
        commit_of(repo, revision, anew=True)
        return _lone(short, repo, revision)
    return _series_on_hub(repo, short)


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
    if not members and any((folder / ADAPTER).is_file() for folder in (path, *path.iterdir())):
        raise InvalidInput(
            f"{path} holds PEFT adapters and no whole model; merge each into its model with merge_and_unload, save "
            "that with save_pretrained, and give its directory"
        )
    if not members:
        raise InvalidInput(
            f"{path} holds neither a config.json nor directories with one; save checkpoints there with "
            "save_pretrained, one directory per step, such as step_001000"
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


def _series_on_hub(repo: str, short: str) -> CheckpointSeries:
    """All revisions of a repository; offline those in the cache, the others left out by name."""
    revisions = list_revisions(repo)
    if not revisions.cached_only:
        why = f"it names a branch and a tag of different commits; pin one by model={repo}@<commit>"
        left_out = [LeftOut(name, why) for name in revisions.ambiguous]
        return series_of(short, repo, revisions.commits, left_out=left_out)
    logger.warning("HF_HUB_OFFLINE is set: of %s only what is cached is used: %s", repo, ", ".join(revisions.commits))
    others = [name for name in last_listing(repo) if name not in revisions.commits]
    return series_of(
        short, repo, revisions.commits, left_out=[LeftOut(name, "it is not cached, and offline") for name in others]
    )
