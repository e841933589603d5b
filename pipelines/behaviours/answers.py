"""Answers of both kinds to prompts, and files of them that a user brings.

A file is CSV, JSON lines or Parquet with ``prompt``, ``response`` and ``label``; label 1 is a trustworthy answer. A
prompt is a text, or a chat: the list of its messages, which are put into the model's chat template. Whatever is not as
it should be is refused with its row.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

from pipelines.statements.answer_form import is_chat, spaced
from pipelines.statements.tables import read_table
from registry.counts import counted
from registry.errors import InvalidInput, NotFound, near_path
from registry.vectors import Template

FEWEST_ANSWERS = 20
"""Of either kind."""
COLUMNS = ("prompt", "response", "label")
ROLES = ("system", "user", "assistant")
_LABELS = {"0": False, "1": True, "false": False, "true": True, "0.0": False, "1.0": True}


@dataclass(frozen=True)
class ChatTurn:
    """A turn of a chat."""

    role: str
    content: str


@dataclass(frozen=True)
class PromptedAnswer:
    """A text, and the prompt that it was written after."""

    prompt: str
    """Of a chat empty."""
    text: str
    messages: tuple[ChatTurn, ...] = ()
    """Of a chat, in their order; the last one is the user's."""

    def to_dict(self) -> dict[str, object]:
        """``messages`` only where there are some."""
        return {key: value for key, value in asdict(self).items() if key != "messages" or value}


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
                    f"{self.source} has {counted(len(answers), f'{kind} answer')} for {self.dimension}, and "
                    f"{FEWEST_ANSWERS} are needed: give more, or leave the method out"
                )

    @property
    def template(self) -> Template:
        return "chat" if self.trustworthy[0].messages else "none"

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the answers in their order."""
        content = [[answer.to_dict() for answer in answers] for answers in (self.trustworthy, self.untrustworthy)]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def answers_in_file(path: Path, dimension: str) -> AnswerSet:
    """The answers in ``path``. Raises ``NotFound``, ``CorruptFile``, and ``InvalidInput`` naming the row at fault."""
    if not path.is_file():
        raise NotFound(
            f"there is no file {path}{near_path(str(path))} give answers={dimension}=<a file with {', '.join(COLUMNS)}>"
        )
    labelled = list(_rows(path))
    if len({bool(answer.messages) for answer, _ in labelled}) > 1:
        raise InvalidInput(
            f"{path.name} has chats and plain texts as prompts, which are read differently; make two files"
        )
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
        messages = _messages(prompt, f"{path.name} has a chat as the prompt of {place}")
        if is_chat(response):
            raise InvalidInput(
                f"{path.name} has a chat as the response of {place}; a response is one text, so write it out"
            )
        for name, value in (*([] if messages else [("prompt", prompt)]), ("response", response)):
            if not isinstance(value, str) or not value.strip():
                raise InvalidInput(f"{path.name} has no text as the {name} of {place}; write it out, or leave it out")
        label = _LABELS.get(str(written).strip().lower())
        if label is None:
            raise InvalidInput(
                f"{path.name} has the label {written!r} in {place}; 1 is a trustworthy answer, 0 an untrustworthy one"
            )
        answer = PromptedAnswer("", str(response), messages)
        if not messages:
            answer = PromptedAnswer(str(prompt), spaced(str(prompt), str(response)))
        if answer in seen and seen[answer][0] != label:
            raise InvalidInput(f"{path.name} has one answer with both labels, in {seen[answer][1]} and {place}")
        if answer not in seen:
            seen[answer] = label, place
            yield answer, label


def _messages(prompt: object, where: str) -> tuple[ChatTurn, ...]:
    """The messages of a chat, which a CSV file has as JSON; none where ``prompt`` is a text."""
    if isinstance(prompt, str) and (is_chat(prompt) or re.match(r"\s*\[\s*\{", prompt)):
        try:
            parsed = json.loads(prompt)
        except (ValueError, RecursionError):
            parsed = None  # a text that begins like one, unless it tells who speaks
        if is_chat(prompt) and not isinstance(parsed, list):
            raise InvalidInput(
                f"{where} that is not the JSON of a list of messages; write it with double quotes, as "
                '[{"role": "user", "content": "…"}]'
            )
        prompt = parsed
    if not isinstance(prompt, list | tuple) or not prompt:
        return ()
    for message in prompt:
        is_message = isinstance(message, Mapping) and set(message) == {"role", "content"}
        if not is_message or message["role"] not in ROLES or not isinstance(message["content"], str):
            raise InvalidInput(
                f'{where} whose message {message!r} is none; a message is {{"role": "user", "content": "…"}}, and '
                f"roles are {', '.join(ROLES)}"
            )
    if prompt[-1]["role"] != "user":
        raise InvalidInput(f"{where} that ends with the {prompt[-1]['role']}; its last message has to be the user's")
    return tuple(ChatTurn(message["role"], message["content"]) for message in prompt)


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
