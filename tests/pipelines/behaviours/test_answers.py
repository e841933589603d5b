"""Files of a user's own answers: what is read, and what is refused with its row."""

import json

import pytest

from pipelines.behaviours import answers
from pipelines.behaviours.answers import answers_in_file, files_by_dimension
from registry.errors import InvalidInput, NotFound
from tests.mutants import mutant

GOOD = [f"prompt {number},answer {word},{label}" for number in range(20) for word, label in (("a", 1), ("b", 0))]


def written(tmp_path, rows=GOOD, header="prompt,response,label"):
    path = tmp_path / "own.csv"
    path.write_text("\n".join([header, *rows]))
    return path


def test_answers_follow_their_prompts_with_a_space(tmp_path):
    given = answers_in_file(written(tmp_path, [*GOOD, GOOD[0]]), "toxicity")
    assert len(given.trustworthy) == len(given.untrustworthy) == 20  # a row that is there twice counts once
    assert given.trustworthy[0] == answers.PromptedAnswer("prompt 0", " answer a")
    assert given.source == "file:own.csv"
    other = answers_in_file(written(tmp_path, [row.replace("answer", "reply") for row in GOOD]), "toxicity")
    assert other.digest != given.digest


MALFORMED = {
    "own.csv has no text as the response of row 41": ["prompt, ,1"],
    "own.csv has no text as the prompt of row 41": [",answer,1"],
    "own.csv has the label '2' in row 41": ["prompt,answer,2"],
    "own.csv has one answer with both labels, in row 1 .* and row 41": ["prompt 0,answer a,0"],
}


@pytest.mark.parametrize("message", MALFORMED)
def test_what_is_malformed_is_refused_by_row(tmp_path, message):
    with pytest.raises(InvalidInput, match=message):
        answers_in_file(written(tmp_path, [*GOOD, *MALFORMED[message]]), "toxicity")


def test_a_chat_is_no_response(tmp_path):
    rows = [*GOOD, "\"prompt\",\"[{'content': 'x', 'role': 'assistant'}]\",1"]
    with pytest.raises(InvalidInput, match="own.csv has a chat as the response of row 41"):
        answers_in_file(written(tmp_path, rows), "toxicity")


def test_other_refusals_name_what_is_wrong(tmp_path):
    with pytest.raises(NotFound, match="there is no file .*; give answers=toxicity="):
        answers_in_file(tmp_path / "none.csv", "toxicity")
    with pytest.raises(InvalidInput, match="own.csv has no column response; prompt, response, label are needed"):
        answers_in_file(written(tmp_path, ["a,1"], "prompt,label"), "toxicity")
    with pytest.raises(InvalidInput, match="file:own.csv has 19 untrustworthy answers for toxicity, and 20 are needed"):
        answers_in_file(written(tmp_path, GOOD[:-1]), "toxicity")
    for entries, message in ((("own.csv",), "has to be a dimension and a file"), (("a=x", "a=y"), "names a twice")):
        with pytest.raises(InvalidInput, match=message):
            files_by_dimension(entries)


CHAT = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "How are you?"}]
USER = CHAT[-1:]


def chats(tmp_path, prompts, name="own.jsonl"):
    path = tmp_path / name
    rows = [
        {"prompt": prompt, "response": f"{word} {number}", "label": label}
        for number, prompt in enumerate(prompts)
        for word, label in (("a", 1), ("b", 0))
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


@pytest.mark.parametrize("written_as", [list, json.dumps])
def test_a_prompt_may_be_a_chat(tmp_path, written_as):
    given = answers_in_file(chats(tmp_path, [written_as(CHAT)] * 20), "toxicity")
    messages = (answers.ChatTurn("system", "Be brief."), answers.ChatTurn("user", "How are you?"))
    assert given.template == "chat" and given.trustworthy[0] == answers.PromptedAnswer("", "a 0", messages)
    shorter = answers_in_file(chats(tmp_path, [written_as(USER)] * 20), "toxicity")
    assert shorter.digest != given.digest
    assert answers_in_file(written(tmp_path), "toxicity").template == "none"


def test_a_text_in_brackets_is_no_chat(tmp_path):
    given = answers_in_file(chats(tmp_path, ["[{sic} he said"] * 20), "toxicity")
    assert given.template == "none" and given.trustworthy[0].prompt == "[{sic} he said"


BAD_CHATS = {
    "a chat as the prompt of .* whose message .*'agent'": [{"role": "agent", "content": "x"}],
    "a chat as the prompt of .* whose message .*'name'": [{"role": "user", "content": "x", "name": "y"}],
    "a chat as the prompt of .* whose message .*None": [{"role": "user", "content": None}],
    "a chat as the prompt of .* whose message 'x'": ["x"],
    "a chat as the prompt of .* that ends with the assistant": [*USER, {"role": "assistant", "content": "Well."}],
    "has chats and plain texts as prompts": USER,
    "is not the JSON of a list of messages": "[{'content': 'x', 'role': 'user'}]",
    "that is not the JSON of a list": '{"messages": [{"content": "x", "role": "user"}]}',
}


@pytest.mark.parametrize("message", BAD_CHATS)
def test_chats_that_are_none_are_refused(tmp_path, message):
    others = ["plain"] * 20 if "plain" in message else [USER] * 20
    with pytest.raises(InvalidInput, match=message):
        answers_in_file(chats(tmp_path, [*others, BAD_CHATS[message]]), "toxicity")


MUTANTS = {
    "both labels": ("seen[answer][0] != label", "False"),
    "blank texts": ("or not value.strip()", ""),
    "too few": ("len(answers) < FEWEST_ANSWERS", "len(answers) < 1"),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_reads_what_is_refused(tmp_path, name):
    refused = [*MALFORMED["own.csv has one answer with both labels, in row 1 .* and row 41"]]
    rows = {"both labels": [*GOOD, *refused], "blank texts": [*GOOD, "prompt, ,1"], "too few": GOOD[:-1]}[name]
    with mutant(answers, *MUTANTS[name]) as changed:
        changed.answers_in_file(written(tmp_path, rows), "toxicity")
