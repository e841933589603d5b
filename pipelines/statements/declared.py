"""Declarations of a user's own dimensions, and of data with other labels than ours: a TOML file beside the data.

    # humility.dimension.toml, beside humility.csv
    meaning = "admitting what one does not know"
    trustworthy = "a statement that admits doubt"
    untrustworthy = "a statement that claims certainty"
    trustworthy_label = 1            # which label of the file is the trustworthy one
    question = "Does the speaker admit doubt?"
    licence = "CC BY 4.0"
    citation = "Our survey, 2026"

For one of the five dimensions everything is optional: ``toxicity.dimension.toml`` with ``trustworthy_label = 0`` turns
the labels of ``toxicity.csv``.
"""

import re
import tomllib
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pipelines.statements.directory import stem_of
from registry.dimensions import DIMENSIONS, Dimension
from registry.errors import CorruptFile, InvalidInput, unknown_name

SAFETY = Dimension(
    "safety", "not helping anyone to do harm", "an answer judged safe", "an answer judged unsafe", ("PKU-SafeRLHF",)
)
"""Not one of the five, but what PKU-SafeRLHF stands for; available by its name."""

SUFFIX = ".dimension.toml"
_MEANINGS = ("meaning", "trustworthy", "untrustworthy")
_KEYS = (*_MEANINGS, "trustworthy_label", "question", "licence", "citation")


@dataclass(frozen=True)
class Declaration:
    """What a user says of a data file: the dimension it stands for, and how its labels read."""

    dimension: Dimension
    trustworthy_label: int = 1
    question: str = ""
    licence: str = "not declared"
    citation: str = "the user's own"


def declaration_for(path: Path, dimension: Dimension) -> Declaration:
    """What is declared beside the data file ``path``; without a declaration, label 1 is trustworthy.

    Raises ``InvalidInput`` where the file is declared to stand for another dimension.
    """
    for name in dict.fromkeys((path.stem, stem_of(path), dimension.name)):
        declared = path.with_name(name + SUFFIX)
        if declared.is_file():
            declaration = read_declaration(declared)
            if declaration.dimension.name != dimension.name:
                raise InvalidInput(
                    f"{declared.name} declares that {path.name} stands for {declaration.dimension.name}, not "
                    f"{dimension.name}; give data={declaration.dimension.name}={path}, or remove {declared}"
                )
            return declaration
    return Declaration(dimension)


def declared_beside(paths: Iterable[Path]) -> dict[str, Dimension]:
    """The dimensions declared in or beside ``paths``, those that exist, by name."""
    present = [path for path in paths if path.exists()]
    directories = dict.fromkeys(path if path.is_dir() else path.parent for path in present)
    declarations = (
        path for directory in directories for path in sorted(directory.glob(f"*{SUFFIX}")) if path.is_file()
    )
    return {dimension.name: dimension for dimension in (read_declaration(path).dimension for path in declarations)}


def read_declaration(path: Path) -> Declaration:
    """Read one declaration; the dimension bears the file's name.

    Raises ``InvalidInput``, or ``UnknownName`` for a key that is none of ours, and ``CorruptFile`` for what is no TOML.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CorruptFile(f"{path} is not TOML: {error}") from error
    for key in content:
        if key not in _KEYS:
            raise unknown_name(f"key of {path.name}", key, _KEYS)
    label = content.pop("trustworthy_label", 1)
    if label not in (0, 1) or isinstance(label, bool):
        raise InvalidInput(f"{path.name} declares trustworthy_label = {label!r}; the trustworthy label is 0 or 1")
    wrong = [key for key, value in content.items() if not isinstance(value, str) or not value.strip()]
    if wrong:
        raise InvalidInput(f"{path.name} declares {wrong[0]} = {content[wrong[0]]!r}; it must be a text")
    others = {key: value for key, value in content.items() if key not in _MEANINGS}
    return Declaration(_dimension(path, content), label, **others)


def possible_name(name: str) -> str:
    """The name of a dimension that is nearest to ``name``."""
    word = re.sub(r"\W+", "_", name).strip("_").lower() or "mine"
    return word if word.isidentifier() else f"d_{word}"


def _dimension(path: Path, content: Mapping[str, str]) -> Dimension:
    name = unicodedata.normalize("NFC", path.name.removesuffix(SUFFIX))
    if name in DIMENSIONS:
        return DIMENSIONS[name]
    if name != possible_name(name):
        raise InvalidInput(
            f"{path} is named after {name!r}, and a dimension's name is a lower-case word; rename it and its data, as "
            f"{possible_name(name)}{SUFFIX}"
        )
    missing = [key for key in _MEANINGS if key not in content]
    if missing:
        raise InvalidInput(
            f"{path.name} declares a dimension of your own without {' and '.join(missing)}; say what it means, what a "
            "trustworthy statement is and what an untrustworthy one is"
        )
    return Dimension(name, content["meaning"], content["trustworthy"], content["untrustworthy"])
