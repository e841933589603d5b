"""Neutral fields: those of OpenAI's and other servers' requests that change no answer, or none at some values."""

import json
from collections.abc import Mapping
from typing import Any

from serving.api.request_body import field_error

IGNORED = frozenset(
    {"user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key", "prompt_cache_retention",
     "parallel_tool_calls", "cache_salt", "priority", "request_id", "include_reasoning"}
)  # fmt: skip
"""Fields of OpenAI's and vLLM's clients that cannot change the answer."""

NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "frequency_penalty": (0,), "presence_penalty": (0,), "repetition_penalty": (1,), "repeat_penalty": (1,),
    "length_penalty": (1,), "top_k": (-1, 0), "min_p": (0,), "typical_p": (1,), "min_tokens": (0,), "best_of": (1,),
    "skip_special_tokens": (True,), "spaces_between_special_tokens": (True,), "use_beam_search": (False,),
    "include_stop_str_in_output": (False,), "detokenize": (True,), "return_token_ids": (False,),
    "return_tokens_as_token_ids": (False,), "add_generation_prompt": (True,), "continue_final_message": (False,),
    "stop_token_ids": ([],), "bad_words": ([],), "logit_bias": ({},), "chat_template_kwargs": ({},),
    "documents": ([],), "suffix": ("",), "echo": (False,), "tools": ([],), "functions": ([],),
    "tool_choice": ("none", "auto"), "function_call": ("none", "auto"), "modalities": (["text"],),
    "reasoning_effort": ("none",), "verbosity": ("medium",),
    "early_stopping": (False,), "prompt_cache_options": ({},), "logits_processors": ([],), "mm_processor_kwargs": ({},),
    "audio": (), "prediction": (), "web_search_options": (), "moderation": (), "prompt_logprobs": (),
    "chat_template": (), "guided_json": (), "guided_regex": (), "guided_choice": (), "guided_grammar": (),
    "guided_decoding_backend": (), "guided_whitespace_pattern": (), "structured_outputs": (), "prompt_embeds": (),
    "allowed_token_ids": (), "truncate_prompt_tokens": (), "kv_transfer_params": (), "vllm_xargs": (),
}  # fmt: skip
"""Fields that are not supported, and the values at which they do not change the answer. Null is always one, and so are
fields of an object that are."""

OF_ROUTES = frozenset(
    {"messages", "prompt", "input", "instructions", "model", "temperature", "top_p", "seed", "n", "stop", "stream",
     "stream_options", "max_tokens", "max_completion_tokens", "max_output_tokens", "logprobs", "top_logprobs", "text",
     "response_format", "include", "background", "conversation", "previous_response_id", "reasoning", "truncation",
     "max_tool_calls"}
)  # fmt: skip
"""Fields of OpenAI's routes. Clients send those of another route as null, which says nothing on any."""


def require_neutral(name: str, value: Any, neutral: tuple[Any, ...]) -> None:
    """Raise a validation error for a field that is not supported, at a value that would change the answer."""
    if value is not None and not _is_neutral(name, value, neutral):
        raise field_error(name, _refusal(name, neutral), value)


def _is_neutral(name: str, value: Any, neutral: tuple[Any, ...]) -> bool:
    if isinstance(value, dict):
        value = {key: part for key, part in value.items() if part is not None}
        if name == "logit_bias":
            value = {key: bias for key, bias in value.items() if isinstance(bias, bool) or bias != 0}
    return any(value == allowed and isinstance(value, bool) == isinstance(allowed, bool) for allowed in neutral)


def _refusal(name: str, neutral: tuple[Any, ...]) -> str:
    values = " or ".join(map(json.dumps, neutral))
    return f"`{name}` would change the answer and is not supported: leave it out{f', or at {values}' if values else ''}"
