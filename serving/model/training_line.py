"""Training line: a series whose stages lie in several repositories, such as base, SFT and DPO, by a TOML file.

    name = "olmo-2-1b"

    [[stages]]
    name = "base"
    model = "allenai/OLMo-2-0425-1B"
    checkpoints = "stage1:log:4,main"

    [[stages]]
    name = "sft"
    model = "allenai/OLMo-2-0425-1B-SFT"

``@line.toml`` names it wherever a model is named. ``name`` is the file's where it is left out, ``checkpoints`` is
``last``. Directories may be relative to the file.
"""

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from registry.checkpoints import INIT, MAIN, Checkpoint, CheckpointSeries, LeftOut
from registry.counts import counted
from registry.errors import InvalidInput, NotFound, near_path, unknown_name
from registry.model_names import model_short_name

PREFIX = "@"
RESERVED = ("all", "first", "last", "log", INIT, MAIN)
"""What a selection of checkpoints means by itself."""
EXAMPLE = '[[stages]] with name = "base" and model = "org/name"'


@dataclass(frozen=True)
class Stage:
    """A part of a training line: some checkpoints of one model."""

    name: str
    model: str
    checkpoints: str = "last"


@dataclass(frozen=True)
class TrainingLine:
    name: str
    file: str
    stages: tuple[Stage, ...]


def names_line(model: str) -> bool:
    return model.startswith(PREFIX)


def read_line(model: str) -> TrainingLine:
    """The line that ``@line.toml`` names. Raises ``NotFound`` without the file, ``InvalidInput`` for what it says."""
    path = Path(model.removeprefix(PREFIX)).expanduser()
    if not path.is_file():
        raise NotFound(
            f"there is no file {str(path)!r}{near_path(str(path))} `model` {model!r} names a TOML file of stages"
        )
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path} is no TOML ({error}); write {EXAMPLE}") from error
    _require_known(content, ("name", "stages"), f"key of {path.name}")
    tables = content.get("stages", [])
    if not isinstance(tables, list) or not tables or not all(isinstance(table, dict) for table in tables):
        raise InvalidInput(f"{path} has no stages, so no checkpoints; write {EXAMPLE}")
    stages = tuple(_stage(path, table) for table in tables)
    for number, stage in enumerate(stages):
        if stage.name in [earlier.name for earlier in stages[:number]]:
            raise InvalidInput(f"{path} has two stages of the name {stage.name!r}; give one of them another")
    return TrainingLine(_name(path, content), path.name, stages)


def join_stages(
    line: TrainingLine, find: Callable[[str], CheckpointSeries], *, name: str | None = None
) -> CheckpointSeries:
    """The checkpoints of all stages in the order of the file, each stage found by ``find``."""
    model, checkpoints, left_out = name or line.name, [], []
    for place, stage in enumerate(line.stages, 1):
        series = find(stage.model)
        chosen = series.select(stage.checkpoints)
        if any(checkpoint.is_random_init for checkpoint in chosen):
            raise InvalidInput(
                f"stage {stage.name!r} of {line.file} selects {stage.checkpoints!r}; leave {INIT} out, which is always "
                "measured beside the trained checkpoints"
            )
        checkpoints += [_placed(checkpoint, model, stage.name, place) for checkpoint in chosen]
        left_out += [replace(left, revision=f"{stage.name}: {left.revision}") for left in series.left_out]
        if rest := len(series) - len(chosen):
            what = f"{stage.name}: {rest} of {counted(len(series), 'checkpoint')} of {stage.model}"
            left_out.append(LeftOut(what, f"not chosen in {line.file}"))
    return CheckpointSeries(model, tuple(checkpoints), tuple(left_out))


def _placed(checkpoint: Checkpoint, model: str, stage: str, place: int) -> Checkpoint:
    inner = f"{stage}-{checkpoint.stage}" if checkpoint.stage else stage
    return replace(checkpoint, model=model, stage=inner, place=place)


def _stage(path: Path, table: Mapping[str, Any]) -> Stage:
    _require_known(table, ("name", "model", "checkpoints"), f"key of a stage of {path.name}")
    for key in ("name", "model", "checkpoints"):
        value = table.get(key, "last" if key == "checkpoints" else None)
        if not isinstance(value, str) or not value.strip():
            raise InvalidInput(f"`{key}` of a stage of {path} is {value!r}; give a text, as {EXAMPLE}")
    stage = Stage(table["name"], table["model"], table.get("checkpoints", "last"))
    if not re.fullmatch(r"[A-Za-z][\w-]*", stage.name, re.ASCII) or stage.name in RESERVED:
        raise InvalidInput(
            f"stage {stage.name!r} of {path} is no name that checkpoints can be selected by; use letters, digits and "
            f"dashes, and none of {', '.join(RESERVED)}"
        )
    if names_line(stage.model):
        raise InvalidInput(f"stage {stage.name!r} of {path} names another line, {stage.model}; list its stages instead")
    beside = path.parent / stage.model
    return replace(stage, model=str(beside.resolve())) if beside.exists() else stage


def _name(path: Path, content: Mapping[str, Any]) -> str:
    name = content.get("name", path.stem)
    if not isinstance(name, str):
        raise InvalidInput(f"`name` of {path} is {name!r}; give a text")
    return model_short_name(name)


def _require_known(table: Mapping[str, Any], known: tuple[str, ...], kind: str) -> None:
    for key in table:
        if key not in known:
            raise unknown_name(kind, key, known)
