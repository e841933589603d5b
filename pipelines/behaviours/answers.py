"""Answers of both kinds to prompts, and files of them that a user brings.

A file is CSV, JSON lines or Parquet with ``prompt``, ``response`` and ``label``; label 1 is a trustworthy answer.
Whatever is not as it should be is refused with its row.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

from pipelines.statements.tables import read_table
from registry.errors import InvalidInput, NotFound

FEWEST_ANSWERS = 20
"""Of either kind."""
COLUMNS = ("prompt", "response", "label")
_LABELS = {"0": False, "1": True, "false": False, "true": True, "0.0": False, "1.0": True}


@dataclass(frozen=True)
class PromptedAnswer:
    """A text, and the prompt that it was written after."""

    prompt: str
    text: str


@dataclass(frozen=True)
class AnswerSet:
    """Answers that a direction is read on. Raises ``InvalidInput`` for too few of one kind."""

    dimension: str
    source: str
    """Such as ``persona:toxic-continuations``."""
    trustworthy: tuple[PromptedAnswer, ...]
    untrustworthy: tuple[PromptedAnswer, ...]

    def __post_init__(self) -> None:
        for kind, answers in (("trustworthy", self.trustworthy), ("untrustworthy", self.untrustworthy)):
            if len(answers) < FEWEST_ANSWERS:
                raise InvalidInput(
                    f"{self.source} has {len(answers)} {kind} answers for {self.dimension}, and {FEWEST_ANSWERS} are "
                    "needed: give more, or leave the method out"
                )

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the answers in their order."""
        content = [[asdict(answer) for answer in answers] for answers in (self.trustworthy, self.untrustworthy)]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def answers_in_file(path: Path, dimension: str) -> AnswerSet:
    """The answers in ``path``. Raises ``NotFound``, ``CorruptFile``, and ``InvalidInput`` naming the row at fault."""
    if not path.is_file():
        raise NotFound(f"there is no file {path}; give answers={dimension}=<a file with {', '.join(COLUMNS)}>")
    labelled = list(_rows(path))
    of_kind = {kind: tuple(answer for answer, label in labelled if label == kind) for kind in (True, False)}
    return AnswerSet(dimension, f"file:{path.name}", of_kind[True], of_kind[False])


def _rows(path: Path) -> Iterator[tuple[PromptedAnswer, bool]]:
    table = read_table(path)
    missing = [name for name in COLUMNS if name not in table.columns]
    if missing:
        raise InvalidInput(
            f"{path.name} has no column {' and no column '.join(missing)}; {', '.join(COLUMNS)} are needed"
        )
    seen: dict[PromptedAnswer, tuple[bool, str]] = {}
    columns = (table.columns[name] for name in COLUMNS)
    for prompt, response, written, place in zip(*columns, table.places, strict=True):
        for name, value in (("prompt", prompt), ("response", response)):
            if not isinstance(value, str) or not value.strip():
                raise InvalidInput(f"{path.name} has no text as the {name} of {place}; write it out, or leave it out")
        label = _LABELS.get(str(written).strip().lower())
        if label is None:
            raise InvalidInput(
                f"{path.name} has the label {written!r} in {place}; 1 is a trustworthy answer, 0 an untrustworthy one"
            )
        answer = PromptedAnswer(str(prompt), _spaced(str(prompt), str(response)))
        if answer in seen and seen[answer][0] != label:
            raise InvalidInput(f"{path.name} has one answer with both labels, in {seen[answer][1]} and {place}")
        if answer not in seen:
            seen[answer] = label, place
            yield answer, label


def _spaced(prompt: str, response: str) -> str:
    """A response as it follows its prompt: with a space between, unless there is one."""
    return response if prompt[-1].isspace() or response[0].isspace() else f" {response}"


def files_by_dimension(entries: tuple[str, ...]) -> dict[str, Path]:
    """From ``toxicity=answers.csv`` to paths. Raises ``InvalidInput`` for an entry of another form, or given twice."""
    files: dict[str, Path] = {}
    for entry in entries:
        dimension, separator, path = entry.partition("=")
        if not separator or not dimension or not path:
            raise InvalidInput(f"answers {entry!r} has to be a dimension and a file: answers=toxicity=./answers.csv")
        if dimension in files:
            raise InvalidInput(f"answers names {dimension} twice; put all its answers into one file")
        files[dimension] = Path(path).expanduser()
    return files
