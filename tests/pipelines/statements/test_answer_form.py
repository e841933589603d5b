import dataclasses
import json

import numpy as np
import pytest

from pipelines.statements import answer_form
from pipelines.statements.files import rows_in_file
from pipelines.statements.findings import findings
from pipelines.statements.quality import inspect_rows
from registry.dimensions import TOXICITY
from registry.errors import InvalidInput
from tests.mutants import mutant

ANSWERS = """prompt,response,label,group,mood
You are,kind,1,,x
You are,cruel,0,,x
I am ,kind,1,a,x
They are,cruel,0,a,x
"""


@pytest.fixture
def rows(tmp_path):
    (tmp_path / "toxicity.csv").write_text(ANSWERS)
    return rows_in_file(tmp_path / "toxicity.csv", TOXICITY)


def test_answers_follow_their_prompts(rows):
    statements = rows.statements()
    assert statements.texts == ("You are kind", "You are cruel", "I am kind", "They are cruel")
    assert statements.prompts == ("You are", "You are", "I am ", "They are")
    part = statements.take(np.array([2, 1]))
    assert (part.texts, part.prompts) == (("I am kind", "You are cruel"), ("I am ", "You are"))


def test_answers_of_a_prompt_are_held_out_together(rows):
    assert list(rows.groups) == [0, 0, 1, 1]
    assert rows.card.group == "group, prompt, text"


def test_columns_that_mean_nothing_are_told(rows):
    assert rows.unread_columns == ("mood",)
    assert "columns that are not read: mood" in " ".join(finding.sentence for finding in findings(inspect_rows(rows)))


def test_where_an_answer_begins_is_part_of_the_identity(rows):
    statements = rows.statements()
    other = dataclasses.replace(statements, prompts=("You", *statements.prompts[1:]))
    whole = dataclasses.replace(statements, prompts=None)
    assert len({statements.digest, other.digest, whole.digest}) == 3
    with pytest.raises(InvalidInput, match="texts that do not begin with their prompts"):
        dataclasses.replace(statements, prompts=("I", *statements.prompts[1:]))


def test_a_statement_beside_a_prompt_is_read_as_before(tmp_path):
    (tmp_path / "toxicity.csv").write_text("statement,prompt,response,label\nx y,x,y,1\nx z,x,z,0\n")
    rows = rows_in_file(tmp_path / "toxicity.csv", TOXICITY)
    assert (rows.texts, rows.prompts, rows.unread_columns) == (("x y", "x z"), None, ("prompt", "response"))


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"prompt": " ", "response": "x"}, r"no text as the prompt of row 1 \(line 1\); write it out"),
        ({"prompt": "x", "response": None}, "no text as the response of row 1"),
        ({"prompt": [{"role": "user", "content": "x"}], "response": "x"}, "a chat as the prompt of row 1"),
        ({"prompt": '[{"role": "user", "content": "x"}]', "response": "x"}, "a chat as the prompt of row 1"),
        ({"prompt": "x", "response": "[{'content': 'x', 'role': 'assistant'}]"}, "a chat as the response of row 1"),
        ({"prompt": "x", "response": {"role": "assistant", "content": "x"}}, "a chat as the response of row 1"),
    ],
)
def test_what_is_no_answer_is_refused_with_its_row(tmp_path, answer, words):
    path = tmp_path / "toxicity.jsonl"
    path.write_text(json.dumps({**answer, "label": 1}) + '\n{"prompt": "x", "response": "y", "label": 0}\n')
    with pytest.raises(InvalidInput, match=words):
        rows_in_file(path, TOXICITY)


CHATS = (
    '[{"role": "user", "content": "x"}]',
    "[{'content': 'x', 'role': 'user'}]",  # as pandas writes a list, in the order of Hugging Face's sets
    "[{'content': 'x', 'role': 'user'}\n {'content': 'y', 'role': 'assistant'}]",  # as NumPy prints an array
    "array([{'content': 'x', 'role': 'user'}], dtype=object)",
    '{"messages": [{"content": "x", "role": "user"}]}',
    '[{"from": "human", "value": "x"}]',  # ShareGPT
)
TEXTS = ("[sic] he said", "{a, b} is a set", '{"from": "Paris", "to": "Rome"}', "My role: 'user'", '"role": "user"')


def check_chats(module=answer_form):
    assert [chat for chat in CHATS if not module.is_chat(chat)] == []
    assert [text for text in TEXTS if module.is_chat(text)] == []
    assert module.is_chat([]) and module.is_chat({})


def test_chats_are_known_however_they_are_written():
    check_chats()


@pytest.mark.parametrize(
    ("passage", "replacement"),
    [
        ("_STRUCTURE.match(value) and ", ""),
        ("bool(_STRUCTURE.match(value) and _TURN.search(value))", "bool(_STRUCTURE.match(value))"),
        ("_TURN.search(value)", "_TURN.match(value)"),
        ("(?:array\\(\\s*)?", ""),
    ],
)
def test_the_table_tells_a_mutant_of_chats(passage, replacement):
    with mutant(answer_form, passage, replacement) as changed, pytest.raises(AssertionError):
        check_chats(changed)
