"""Usage: tokens read and generated, as OpenAI counts them."""

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel

from serving.engine.base import GenerationOutcome


def usage(outcomes: Sequence[GenerationOutcome], choices: int = 1) -> dict[str, Any]:
    """Tokens read and generated. A prompt that several choices share is counted once."""
    read = sum(outcome.prompt_tokens for outcome in outcomes[::choices])
    generated = sum(outcome.generated_tokens for outcome in outcomes)
    cached = [outcome.cached_prompt for outcome in outcomes[::choices] if outcome.cached_prompt is not None]
    return {
        "prompt_tokens": read,
        "completion_tokens": generated,
        "total_tokens": read + generated,
        "prompt_tokens_details": {"cached_tokens": sum(cached)} if cached else None,
    }


class PromptTokensDetails(BaseModel):
    cached_tokens: int
    """Not read again: their keys and values were kept from an earlier request."""


class Usage(BaseModel):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails | None = None
    """``null`` where the engine does not tell."""
