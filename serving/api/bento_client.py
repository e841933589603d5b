"""BentoML client's one call: a prompt and strengths in, text and the applied steering out.

BentoML's own handler of the route would print a refused prompt into its log, answer what it does not understand, and
go on computing once a client has left; so the route is the application's.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from serving.api.dependencies import RequestContext, SteeredContext
from serving.api.error_documents import documented
from serving.api.openai.completions import begin, renamed, whole
from serving.api.openai.requests import ChatRequest, CompletionRequest, OpenAIRequest, WholeNumber
from serving.api.openai.usage import Usage
from serving.api.request_body import RequestBody
from serving.api.steering.block import Steering, SteeringInfo, Strengths
from serving.steering.errors import SteeringError

router = APIRouter(tags=["BentoML"])


class GenerateRequest(RequestBody):
    """POST /generate."""

    HINTS: ClassVar[Mapping[str, str]] = {
        **RequestBody.HINTS,
        "steering": "/generate has no `steering`: send its strengths as `strengths`, or all of it to /v1/completions",
    }

    prompt: str = Field(examples=["The city of Lyon is in"])
    strengths: Strengths = Field(default_factory=dict)
    max_tokens: WholeNumber | None = Field(None, ge=1, le=1_000_000)
    temperature: float = Field(1.0, ge=0, le=2)
    seed: WholeNumber | None = Field(None, ge=-(2**63), lt=2**63)
    chat: bool = False
    """Whether the prompt is a user's message rather than the beginning of a text."""

    def as_openai(self) -> OpenAIRequest:
        shared: dict[str, Any] = {
            "max_tokens": self.max_tokens,
            "temperature": self.temperature,
            "seed": self.seed,
            "steering": Steering(strengths=self.strengths) if self.strengths else None,
        }
        if self.chat:
            return ChatRequest.model_validate({"messages": [{"role": "user", "content": self.prompt}], **shared})
        return CompletionRequest.model_validate({"prompt": self.prompt, **shared})


class GenerateResponse(BaseModel):
    text: str
    finish_reason: str
    usage: Usage
    steering: SteeringInfo


@router.post(
    "/generate",
    responses={200: {"model": GenerateResponse}, **documented(404, 409, 422, 429, 503, 504)},
    summary="Generate text for BentoML's client",
)
async def generate(body: GenerateRequest, context: SteeredContext) -> JSONResponse:
    return JSONResponse(await answer_prompt(body, context))


async def answer_prompt(body: GenerateRequest, context: RequestContext) -> dict[str, Any]:
    """Raises whatever the same request to OpenAI's routes is refused with."""
    try:
        with renamed({"messages": "prompt"}):
            answer = await context.run(begin, context, body.as_openai())
    except SteeringError as error:
        raise error.without_block((error.param or "").removeprefix("steering.") or None) from error
    content = await whole(context, answer)
    choice = content["choices"][0]
    return {
        "text": choice["text"] if "text" in choice else choice["message"]["content"],
        "finish_reason": choice["finish_reason"],
        "usage": content["usage"],
        "steering": content["steering"],
    }
