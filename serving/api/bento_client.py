"""The one call of BentoML's own client: a prompt and strengths in, text and what was applied out."""

from collections.abc import Mapping
from typing import Any

from fastapi.concurrency import run_in_threadpool

from serving.api.openai.completions import begin, whole
from serving.api.openai.requests import ChatRequest, CompletionRequest, OpenAIRequest
from serving.api.request_record import RequestRecord
from serving.served_model import ServedModel


async def generate(
    served: ServedModel,
    prompt: str,
    strengths: Mapping[str, float],
    max_tokens: int,
    temperature: float,
    seed: int | None,
    chat: bool,
) -> dict[str, Any]:
    """Raises whatever the same request to OpenAI's routes is refused with, or pydantic's ``ValidationError``."""
    asked: dict[str, Any] = {
        "max_tokens": max_tokens,
        "temperature": temperature,
        "seed": seed,
        "steering": {"strengths": dict(strengths)},
    }
    body: OpenAIRequest
    if chat:
        body = ChatRequest.model_validate({"messages": [{"role": "user", "content": prompt}], **asked})
    else:
        body = CompletionRequest.model_validate({"prompt": prompt, **asked})
    record = RequestRecord("", "POST", "/generate")
    answer = await run_in_threadpool(begin, served, body, record)
    told = await whole(served, answer, None)
    choice = told["choices"][0]
    return {
        "text": choice["text"] if "text" in choice else choice["message"]["content"],
        "finish_reason": choice["finish_reason"],
        "usage": told["usage"],
        "steering": told["steering"],
    }
