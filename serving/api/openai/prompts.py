"""Prompts: the tokens that the model reads for a request's text, texts or conversation."""

from collections.abc import Sequence

from jinja2.exceptions import TemplateError

from registry.errors import InvalidInput
from serving.api.errors import ApiError
from serving.api.openai.requests import Message, Prompt
from serving.model.language_model import LanguageModel

Tokens = tuple[int, ...]


def text_tokens(model: LanguageModel, text: str, param: str = "prompt") -> Tokens:
    """A text's tokens, as the tokenizer begins one. Raises ``ApiError`` for a text without any."""
    tokens = tuple(model.tokenizer(text)["input_ids"]) if text else ()
    if not tokens:
        raise ApiError(f"`{param}` is empty; give at least one character", param=param)
    return tokens


def n_prompts(prompt: Prompt) -> int:
    """How many prompts a completion has, known before any is tokenised."""
    return 1 if isinstance(prompt, str) or (prompt and isinstance(prompt[0], int)) else len(prompt)


def prompt_tokens(model: LanguageModel, prompt: Prompt, field: str = "prompt") -> list[Tokens]:
    """The prompts of a request's ``field``, each as tokens: one text, several, or either as tokens already."""
    if isinstance(prompt, str):
        return [text_tokens(model, prompt, field)]
    if not prompt:
        raise ApiError(f"`{field}` is empty; give a text, or a list of them", param=field)
    if isinstance(prompt[0], int):
        return [tuple(token for token in prompt if isinstance(token, int))]
    sequences = []
    for index, part in enumerate(prompt):
        param = f"{field}.{index}"
        if isinstance(part, str):
            sequences.append(text_tokens(model, part, param))
        elif isinstance(part, list) and part:
            sequences.append(tuple(part))
        else:
            raise ApiError(f"`{param}` is empty; give at least one token", param=param)
    return sequences


def chat_tokens(model: LanguageModel, messages: Sequence[Message]) -> Tokens:
    """A conversation by the model's own template, up to where the assistant's answer begins.

    Raises ``InvalidInput`` for a model that has no template, and for messages that its template refuses.
    """
    if not has_chat(model):
        raise InvalidInput(
            f"{model.checkpoint.model} has no chat template; send the text as `prompt` to /v1/completions instead"
        )
    for index, message in enumerate(messages):
        if message.role == "tool" and "tool" not in str(model.tokenizer.chat_template):
            raise ApiError(
                f"the chat template of {model.checkpoint.model} does not know the role tool; send its result as user",
                param=f"messages.{index}.role",
            )
    conversation = [
        {"role": "system" if message.role == "developer" else message.role, "content": message.text}
        for message in messages
    ]
    try:
        text = str(model.tokenizer.apply_chat_template(conversation, add_generation_prompt=True, tokenize=False))
    except TemplateError as error:
        raise InvalidInput(f"the model's chat template refuses these messages: {error}") from error
    return tuple(model.tokenizer(text, add_special_tokens=False)["input_ids"])


def has_chat(model: LanguageModel) -> bool:
    return bool(getattr(model.tokenizer, "chat_template", None))
