"""Tool calls: what a request's tools allow its answer to say, and the calls in the text that it then says.

A call that must be made is the whole answer, one JSON object of name and arguments. A call that may be made stands in
tags in free text, as the chat templates of Hermes, Qwen and others have it.
"""

import json
import uuid
from collections.abc import Sequence
from typing import Any

from serving.api.errors import ApiError
from serving.api.openai.tools import FunctionDefinition, NamedTool, Tool, ToolChoice
from serving.engine.calls import CallFrame, Calls
from serving.model.language_model import LanguageModel

OPENING, CLOSING = "<tool_call>", "</tool_call>"

Json = dict[str, Any]


def renders_tools(model: LanguageModel) -> bool:
    """Whether the model's chat template tells it of tools."""
    return "tools" in str(model.tokenizer.chat_template)


def allowed_calls(
    model: LanguageModel, tools: Sequence[Tool], choice: ToolChoice, *, at_most_one: bool = False
) -> Calls:
    """The calls that an answer must or may make. Raises ``ApiError`` where the model cannot choose to call."""
    functions = [tool.function for tool in tools]
    if isinstance(choice, NamedTool):
        functions = [function for function in functions if function.name == choice.function.name]
    if choice != "auto":
        return Calls(tuple(_frame(function, "", "}") for function in functions))
    vocabulary = model.token_bytes
    is_text = OPENING not in map(vocabulary.label, vocabulary.special)
    if not (is_text and renders_tools(model) and OPENING in str(model.tokenizer.chat_template)):
        raise ApiError(
            f"the chat template of {model.checkpoint.model} writes no calls in {OPENING} tags, so the model cannot "
            "choose to call; send `tool_choice` required, or a function",
            param="tool_choice",
        )
    frames = tuple(_frame(function, f"{OPENING}\n", f"}}\n{CLOSING}") for function in functions)
    return Calls(frames, trigger=OPENING, at_most_one=at_most_one)


def _frame(function: FunctionDefinition, before: str, end: str) -> CallFrame:
    begin = f'{before}{{"name": {json.dumps(function.name)}, "arguments": '
    return CallFrame(function.name, begin, function.schema_of_arguments, end)


def instructions(tools: Sequence[Tool]) -> str:
    """The words by which a model is told of tools whose chat template does not know them."""
    described = "\n".join(json.dumps(tool.function.to_dict()["function"], ensure_ascii=False) for tool in tools)
    return (
        f'To call one of these functions, answer {{"name": its name, "arguments": its arguments}} alone.\n{described}'
    )


class CallReader:
    """Reads one answer as its text comes: what of it is text to show, and which calls it makes."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._text = ""
        self._shown = 0

    def add(self, text: str) -> str:
        """Take more of the answer; what may now be shown of it."""
        self._text += text
        if not self._calls.trigger:
            return ""
        shown, self._shown = self._shown, max(self._shown, self._end_of_text())
        return self._text[shown : self._shown]

    def finish(self) -> tuple[str, list[Json]]:
        """The rest of the text, and the calls. An answer that broke off within a call is text."""
        if not self._calls.trigger:
            call = self._call_at(0)
            return ("", [call[0]]) if call is not None and call[1] == len(self._text) else (self._text, [])
        rest, calls, place = "", [], self._shown
        while place < len(self._text):
            call = self._call_at(place)
            if call is None:
                rest, place = rest + self._text[place], place + 1
            else:
                calls.append(call[0])
                place = call[1]
        return (rest if rest.strip() or not calls else ""), calls

    def _end_of_text(self) -> int:
        """Where a call begins, or may begin with the text that comes next."""
        trigger = self._calls.trigger
        found = self._text.find(trigger, self._shown)
        if found >= 0:
            return found
        lengths = range(min(len(trigger) - 1, len(self._text)), 0, -1)
        begun = next((length for length in lengths if self._text.endswith(trigger[:length])), 0)
        return len(self._text) - begun

    def _call_at(self, place: int) -> tuple[Json, int] | None:
        """The call that begins at ``place``, and where it ends."""
        for frame in self._calls.frames:
            if not self._text.startswith(frame.begin, place):
                continue
            begin = place + len(frame.begin)
            try:
                _, end = json.JSONDecoder().raw_decode(self._text, begin)
            except ValueError:
                return None
            if self._text.startswith(frame.end, end):
                function = {"name": frame.name, "arguments": self._text[begin:end]}
                call = {"id": f"call_{uuid.uuid4().hex[:24]}", "type": "function", "function": function}
                return call, end + len(frame.end)
        return None
