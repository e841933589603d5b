"""Answer form: statements that are responses to prompts, of which ``pooling=response`` reads the response alone."""

import re
from dataclasses import replace
from pathlib import Path

from pipelines.statements.tables import Table
from registry.errors import InvalidInput

COLUMNS = ("prompt", "response")
_STRUCTURE = re.compile(r"\s*(?:array\(\s*)?[\[{]")
_TURN = re.compile(
    r"""["'](?:role["']\s*:\s*["']\w+|from["']\s*:\s*["'](?:system|user|human|assistant|gpt|tool|function))["']"""
)
"""How JSON and Python write who speaks, whichever key comes first: Hugging Face's messages and ShareGPT's."""


def has_answer_form(table: Table) -> bool:
    return "statement" not in table.columns and table.columns.keys() >= set(COLUMNS)


def with_statements(table: Table, path: Path) -> Table:
    """``table`` with each prompt and its response as one statement. Raises ``InvalidInput`` naming the row at fault."""
    texts = []
    for prompt, response, place in zip(*(table.columns[name] for name in COLUMNS), table.places, strict=True):
        for name, value in zip(COLUMNS, (prompt, response), strict=True):
            if is_chat(value):
                raise InvalidInput(
                    f"{path.name} has a chat as the {name} of {place}; the {name} of a statement is one text, so write "
                    "it out as the text that the model is to read"
                )
            if not isinstance(value, str) or not value.strip():
                raise InvalidInput(f"{path.name} has no text as the {name} of {place}; write it out, or leave it out")
        texts.append(f"{prompt}{spaced(str(prompt), str(response))}")
    return replace(table, columns={**table.columns, "statement": tuple(texts)})


def is_chat(value: object) -> bool:
    """Whether a cell holds messages: as JSON, or as the text of it or of what Python or NumPy print."""
    if isinstance(value, str):
        return bool(_STRUCTURE.match(value) and _TURN.search(value))
    return isinstance(value, list | dict)


def spaced(prompt: str, response: str) -> str:
    """A response as it follows its prompt: with a space between, unless there is one."""
    return response if prompt[-1].isspace() or response[0].isspace() else f" {response}"
