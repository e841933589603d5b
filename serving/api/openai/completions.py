"""From a completion or chat request to its answer, whole or streamed."""

import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import Request

from registry.errors import TrustTraceError
from serving.api.errors import ApiError, as_reply, require_model
from serving.api.openai.prompts import Tokens, chat_tokens, prompt_tokens
from serving.api.openai.requests import ChatRequest, CompletionRequest, OpenAIRequest, SampledRequest
from serving.api.openai.responses import AnswerFormat, ChatFormat, Envelope, Json, TextFormat
from serving.api.openai.streaming import completions, events, submit_all
from serving.api.request_record import RequestRecord
from serving.api.steering.block import applied_steering, steering_request
from serving.engine.base import Completion, Generation, GenerationOutcome, Sampling
from serving.served_model import LoadedModel, ServedModel
from serving.steering.limits import Limits
from serving.steering.resolver import SteeringResolution, SteeringResolver

DONE = b"data: [DONE]\n\n"
SILENCE = b": still generating\n\n"


@dataclass(frozen=True)
class Answer:
    """The generations of one request, with what its reply says around them."""

    envelope: Envelope
    generations: Sequence[Generation]
    steering: SteeringResolution
    record: RequestRecord

    def told(self, ended: Sequence[GenerationOutcome]) -> Json:
        """The reply's ``steering``."""
        self.record.ended(ended)
        return applied_steering(self.steering, ended)


def resolver(served: ServedModel, running: LoadedModel) -> SteeringResolver:
    """Everything that a request's steering is resolved against, at this moment."""
    limits = Limits(running.norms, served.settings.dose_limit)
    catalog = running.catalog
    return SteeringResolver(catalog.served, catalog.health, limits, served.defaults, running.engine.operations)


def begin(served: ServedModel, body: OpenAIRequest, record: RequestRecord) -> Answer:
    """Resolve, tokenise and submit. May take long for a long prompt; raises whatever the request is refused with."""
    running = served.require_loaded()
    require_model(body.model, running.name)
    steering = resolver(served, running).resolve(steering_request(body.steering))
    prompts, format = _prompts(running, body)
    choices = len(prompts) * body.choices
    if choices > served.settings.max_choices:
        raise ApiError(
            f"the request asks for {choices} answers and may ask for {served.settings.max_choices} "
            "(TRUSTTRACE_MAX_CHOICES)",
            param="n" if body.choices > 1 else "prompt",
        )
    asked = [
        (tokens, sampling_of(served, body, index), steering.plan)
        for index, tokens in enumerate(tokens for tokens in prompts for _ in range(body.choices))
    ]
    record.asked(lambda: running.model.tokenizer.decode(asked[0][0]), [steering])
    generations = submit_all(running.engine, asked)
    return Answer(Envelope(format, running.model, system_fingerprint(running, steering)), generations, steering, record)


def _prompts(running: LoadedModel, body: OpenAIRequest) -> tuple[list[Tokens], AnswerFormat]:
    if isinstance(body, ChatRequest):
        return [chat_tokens(running.model, body.messages)], ChatFormat()
    assert isinstance(body, CompletionRequest)
    return prompt_tokens(running.model, body.prompt), TextFormat()


def sampling_of(served: ServedModel, body: SampledRequest, choice: int = 0) -> Sampling:
    """How one choice is drawn: by a seed of its own, so that choices differ and can be had again."""
    longest = getattr(body, "max_completion_tokens", None) or body.max_tokens or served.settings.max_tokens
    return Sampling(
        max_tokens=longest,
        temperature=1.0 if body.temperature is None else body.temperature,
        top_p=1.0 if body.top_p is None else body.top_p,
        seed=None if body.seed is None else body.seed + choice,
        stop=body.stops,
        top_logprobs=_top_logprobs(body),
        ignore_eos=body.ignore_eos,
    )


def _top_logprobs(body: SampledRequest) -> int | None:
    if isinstance(body, ChatRequest):
        return (body.top_logprobs or 0) if body.logprobs else None
    return body.logprobs if isinstance(body, CompletionRequest) else None


def system_fingerprint(running: LoadedModel, steering: SteeringResolution) -> str:
    return f"{running.model.weights_digest[:12]}-{steering.plan.fingerprint[:12] or 'unsteered'}"


async def whole(served: ServedModel, answer: Answer, request: Request | None) -> Json:
    """The answer in one object."""
    found: list[Completion] = await completions(answer.generations, request, served.settings.timeout)
    for index, one in enumerate(found):
        answer.record.text(index, one.text)
    return answer.envelope.whole(found, answer.told([one.outcome for one in found]))


async def streamed(served: ServedModel, answer: Answer, body: OpenAIRequest) -> AsyncIterator[bytes]:
    """The answer as server-sent events; an error in the middle is an event too, and no ``[DONE]`` follows it."""
    envelope, settings = answer.envelope, served.settings
    ended: dict[int, GenerationOutcome] = {}
    for index in range(len(answer.generations)):
        opened = envelope.opening(index)
        if opened is not None:
            yield _sent(opened)
    try:
        async for found in events(answer.generations, settings.timeout, settings.heartbeat):
            if found is None:
                yield SILENCE
                continue
            index, event = found
            if not isinstance(event, GenerationOutcome):
                answer.record.token(index, event.text)
                if event.text or event.logprob is not None:
                    yield _sent(envelope.piece(index, event))
                continue
            ended[index] = event
            last = envelope.ending(index, event)
            if len(ended) == len(answer.generations):
                for chunk in _last(answer, last, [ended[place] for place in sorted(ended)], body.with_usage):
                    yield _sent(chunk)
            else:
                yield _sent(last)
        yield DONE
    except TrustTraceError as error:
        status, told, _ = as_reply(error)
        answer.record.failed(status)
        yield _sent(told)


def _last(answer: Answer, ending: Json, ended: Sequence[GenerationOutcome], with_usage: bool) -> list[Json]:
    """What steered the answer stands on the last chunk, whichever that is."""
    steering = answer.told(ended)
    if not with_usage:
        return [{**ending, "steering": steering}]
    return [ending, {**answer.envelope.closing(ended), "steering": steering}]


def _sent(content: Any) -> bytes:
    return b"data: " + json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"
