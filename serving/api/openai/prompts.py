"""Prompts: the tokens that the model reads for a request's text, texts or conversation."""

import json
from collections.abc import Sequence
from typing import Any

from registry.errors import InvalidInput
from serving.api.errors import ApiError, ContextExceeded
from serving.api.openai.requests import Message, Prompt
from serving.api.openai.tool_calls import instructions, renders_tools
from serving.api.openai.tools import Tool
from serving.engine.base import PromptTooLong
from serving.engine.requirements import require_room, require_tokens
from serving.model.chat_templates import CHAT_TEMPLATES
from serving.model.language_model import LanguageModel
from serving.model.text_tokens import text_tokens

Tokens = tuple[int, ...]

READ_FIRST = 16
"""Characters for each token of the window, of a text that is more than twice as long: as many of plain text make more
than twice the tokens that have room."""


def tokens_of(model: LanguageModel, text: str, window: int, param: str = "prompt") -> Tokens:
    """A text's tokens, as the tokenizer begins one. Raises ``ApiError`` for a text without any, and
    ``ContextExceeded`` for one that is far too long.
    """
    tokens = _tokens(model, text, window, param) if text else ()
    if not tokens:
        raise ApiError(f"`{param}` is empty; give at least one character", param=param)
    return tokens


def answer_tokens(model: LanguageModel, text: str, window: int, param: str) -> Tokens:
    """The tokens of a text that goes on where another ended: without what some tokenizers put before a text's first
    word. Raises as ``tokens_of`` does.
    """
    before = text_tokens(model.tokenizer, "\n", add_special_tokens=False)
    tokens = _tokens(model, f"\n{text}", window, param, add_special_tokens=False) if text else before
    if tokens[: len(before)] != before:  # the line's end is part of a longer token
        return _tokens(model, text, window, param, add_special_tokens=False)
    return tokens[len(before) :] or tokens_of(model, "", window, param)


def _tokens(model: LanguageModel, text: str, window: int, param: str, *, add_special_tokens: bool = True) -> Tokens:
    """A text is not read to its end where its beginning alone has twice the tokens that have room: what follows a
    beginning changes its last few tokens at most.
    """
    beginning = text[: READ_FIRST * window]
    if len(text) > 2 * len(beginning):
        fewest = len(text_tokens(model.tokenizer, beginning, add_special_tokens=False))
        if fewest >= 2 * window:
            raise ContextExceeded(PromptTooLong(fewest // 2, window, at_least=True), param)
    return text_tokens(model.tokenizer, text, add_special_tokens=add_special_tokens)


def require_fitting(sequences: Sequence[Tokens], window: int, names: Sequence[str], *, is_answered: bool) -> None:
    """Raise ``ContextExceeded`` naming the field of the first sequence that does not fit, or could not be answered."""
    for tokens, name in zip(sequences, names, strict=True):
        try:
            require_room(tokens, window, is_answered=is_answered)
        except PromptTooLong as error:
            raise ContextExceeded(error, name) from error


def n_prompts(prompt: Prompt) -> int:
    """How many prompts a completion has, known before any is tokenised."""
    return len(prompt_names(prompt))


def prompt_names(prompt: Prompt, field: str = "prompt") -> list[str]:
    """The names of the prompts of a request's ``field``."""
    is_one = isinstance(prompt, str) or bool(prompt and isinstance(prompt[0], int))
    return [field] if is_one else [f"{field}.{index}" for index in range(len(prompt))]


def prompt_tokens(model: LanguageModel, prompt: Prompt, window: int, field: str = "prompt") -> list[Tokens]:
    """The prompts of a request's ``field``, each as tokens: one text, several, or either as tokens already."""
    if isinstance(prompt, str):
        return [tokens_of(model, prompt, window, field)]
    if not prompt:
        raise ApiError(f"`{field}` is empty; give a text, or a list of them", param=field)
    if isinstance(prompt[0], int):
        return [_known(model, [token for token in prompt if isinstance(token, int)], field)]
    sequences = []
    for index, part in enumerate(prompt):
        param = f"{field}.{index}"
        if isinstance(part, str):
            sequences.append(tokens_of(model, part, window, param))
        elif isinstance(part, list) and part:
            sequences.append(_known(model, part, param))
        else:
            raise ApiError(f"`{param}` is empty; give at least one token", param=param)
    return sequences


def _known(model: LanguageModel, tokens: Sequence[int], param: str) -> Tokens:
    """Raises ``ApiError`` for a token that the vocabulary lacks."""
    try:
        require_tokens(tokens, model.vocabulary)
    except InvalidInput as error:
        raise ApiError(str(error), param=param) from error
    return tuple(tokens)


def chat_tokens(
    model: LanguageModel,
    messages: Sequence[Message],
    window: int,
    tools: Sequence[Tool] = (),
    client: str = "",
    *,
    is_answered: bool,
) -> Tokens:
    """A conversation that fits, by the model's own template, up to where the assistant's answer begins.

    Tools, calls and their results are told in words where the template does not know them. ``client`` is whose share
    of the template's renderings is used.

    Raises ``ApiError`` for a model that has no template, and for messages that its template refuses or makes nothing
    of; ``ContextExceeded`` for a conversation that is too long.
    """
    if not has_chat(model):
        raise ApiError(
            f"{model.checkpoint.model} has no chat template, so it takes texts alone: send `prompt` to "
            "/v1/completions, /generate or /v1/steering/compare, `input` to /v1/probe or /v1/hidden_states",
            param="messages",
        )
    knows_tools = renders_tools(model)
    if not knows_tools:
        _require_called(messages, model)
    conversation = [as_rendered(message) if knows_tools else in_words(message) for message in messages]
    if tools and not knows_tools:
        conversation = with_instructions(conversation, instructions(tools))
    offered = [tool.function.to_dict() for tool in tools] if knows_tools and tools else None
    try:
        text = CHAT_TEMPLATES.render(model.tokenizer, conversation, offered, client)
    except InvalidInput as error:
        raise ApiError(str(error), param="messages") from error
    tokens = _tokens(model, text, window, "messages", add_special_tokens=False)
    if not tokens:
        raise ApiError("the model's chat template makes no text of these messages; send others", param="messages")
    require_fitting([tokens], window, ["messages"], is_answered=is_answered)
    return tokens


def as_rendered(message: Message) -> dict[str, Any]:
    """A message for a chat template that knows tools."""
    rendered: dict[str, Any] = {"role": _role(message), "content": message.text}
    if message.tool_calls:
        rendered["tool_calls"] = [call.to_dict() for call in message.tool_calls]
    if message.role == "tool":
        rendered |= {"tool_call_id": message.tool_call_id or "", "name": message.name or ""}
    return rendered


def in_words(message: Message) -> dict[str, Any]:
    """A message for a template that knows no tools: calls as they were written, results as the user's words."""
    if message.role == "tool":
        return {"role": "user", "content": f"The function answers: {message.text}"}
    calls = [
        f'{{"name": {json.dumps(call.function.name)}, "arguments": {call.function.arguments or "{}"}}}'
        for call in message.tool_calls or ()
    ]
    return {"role": _role(message), "content": "\n".join(filter(None, [message.text, *calls]))}


def _require_called(messages: Sequence[Message], model: LanguageModel) -> None:
    """Raise ``ApiError`` for the result of a tool that no message before it calls."""
    called = False
    for index, message in enumerate(messages):
        called = called or bool(message.tool_calls)
        if message.role == "tool" and not called:
            raise ApiError(
                f"the chat template of {model.checkpoint.model} does not know the role tool, and no message before it "
                "calls one; send its result as user",
                param=f"messages.{index}.role",
            )


def with_instructions(conversation: list[dict[str, Any]], words: str) -> list[dict[str, Any]]:
    """The conversation with these words in its system message."""
    if conversation[0]["role"] != "system":
        return [{"role": "system", "content": words}, *conversation]
    return [{"role": "system", "content": f"{conversation[0]['content']}\n\n{words}"}, *conversation[1:]]


def _role(message: Message) -> str:
    return "system" if message.role == "developer" else message.role


def has_chat(model: LanguageModel) -> bool:
    return bool(getattr(model.tokenizer, "chat_template", None))
