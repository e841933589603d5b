"""Completions: a completion or chat request on its way to its answer."""

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from serving.api.dependencies import RequestContext
from serving.api.errors import ApiError, require_model
from serving.api.fair_share import require_places
from serving.api.openai.prompts import (
    Tokens,
    chat_tokens,
    n_prompts,
    prompt_names,
    prompt_tokens,
    require_fitting,
)
from serving.api.openai.requests import ChatRequest, CompletionRequest, OpenAIRequest, SampledRequest
from serving.api.openai.responses import AnswerFormat, ChatFormat, Envelope, Json, TextFormat
from serving.api.openai.streaming import completions, submit_all
from serving.api.openai.tool_calls import allowed_calls
from serving.api.request_record import RequestRecord
from serving.api.steering.block import SteeringChoice, steering_request
from serving.api.steering.resolution import resolve_steering
from serving.api.steering.responses import applied_steering
from serving.api.steering.shorthand import HEADER, parse_strengths, split_alias
from serving.engine.base import Generation, GenerationOutcome, GenerationRequest, Sampling
from serving.engine.calls import Calls
from serving.engine.grammar import SchemaRefused
from serving.served_model import LoadedModel, ServedModel
from serving.settings import Settings
from serving.steering.request import SteeringRequest
from serving.steering.resolution import SteeringResolution

DONE = b"data: [DONE]\n\n"
SILENCE = b": still generating\n\n"


@dataclass(frozen=True)
class Answer:
    """The generations of one request, with what its response says around them."""

    envelope: Envelope
    generations: Sequence[Generation]
    steering: SteeringResolution
    record: RequestRecord

    def end(self, outcomes: Sequence[GenerationOutcome]) -> Json:
        """The response's ``steering``."""
        self.record.end(outcomes, [self.steering.monitored_dimensions] * len(outcomes))
        return applied_steering(self.steering, outcomes)


def begin(context: RequestContext, body: OpenAIRequest) -> Answer:
    """Resolve, tokenise and submit. May take long for a long prompt; raises whatever the request is refused with."""
    served, record = context.served, context.record
    loaded = served.require_loaded()
    model, alias = split_alias(body.model)
    require_model(model, loaded.name)
    request, source = steering_of(body.steering, context.x_steering, alias)
    is_challenged = random.Random(body.seed).random() < served.settings.challenger  # a seed draws the same again
    steering = resolve_steering(served, loaded, request, source, is_challenged=is_challenged).after(
        "chat" if isinstance(body, ChatRequest) else "none"
    )
    _require_choices(body, served.settings)
    calls = _calls(loaded, body)
    prompts, format = _prompts(loaded, body, calls, record.client)
    requests = [
        GenerationRequest(
            tokens, sampling_of(served, body, index, calls), steering.plan, steering.monitor, record.client
        )
        for index, tokens in enumerate(tokens for tokens in prompts for _ in range(body.choices))
    ]
    record.begin(lambda: loaded.model.tokenizer.decode(prompts[0]), [steering])
    try:
        generations = context.shares.submit(record.client, loaded.engine, lambda: submit_all(loaded.engine, requests))
    except SchemaRefused as error:
        raise ApiError(str(error), param="response_format" if calls is None else "tools") from error
    fingerprint = system_fingerprint(loaded, steering)
    envelope = Envelope(format, loaded.model, fingerprint, body.choices, steering.monitored_dimensions)
    return Answer(envelope, generations, steering, record)


def steering_of(body: SteeringChoice, header: str | None, alias: str | None) -> tuple[SteeringRequest, str]:
    """A request's steering, of its body, else of its header, else of the model's alias; and which field that is.

    A body that steers nothing of its own, such as one with a monitor alone, goes together with the other's strengths.
    """
    own, (text, source) = steering_request(body), (alias, "model") if header is None else (header, HEADER)
    if text is None or body == "off" or own.dimensions.names or own.vectors:
        return own, "steering"
    given = steering_request(parse_strengths(text, source))
    if own == SteeringRequest():
        return given, source
    scope = own.dimensions.scope or given.dimensions.scope
    dimensions = replace(own.dimensions, strengths=given.dimensions.strengths, scope=scope)
    return replace(own, dimensions=dimensions, inherits=given.inherits), "steering"


@contextmanager
def renamed(fields: Mapping[str, str]) -> Iterator[None]:
    """Errors name the fields of a request by other names than the OpenAI request has that was made from it."""
    try:
        yield
    except ApiError as error:
        error.param = fields.get(error.param or "", error.param)
        raise


def _require_choices(body: OpenAIRequest, settings: Settings) -> None:
    """Raise ``ApiError`` for too many answers, before any prompt is tokenised."""
    choices = body.choices * (n_prompts(body.prompt) if isinstance(body, CompletionRequest) else 1)
    most, param = settings.max_choices, "n" if body.choices > 1 else "prompt"
    if choices > most:
        raise ApiError(
            f"the request asks for {choices} answers and may ask for {most} (TRUSTTRACE_MAX_CHOICES)", param=param
        )
    require_places(choices, settings, param)


def _calls(loaded: LoadedModel, body: OpenAIRequest) -> Calls | None:
    """The calls of tools that the answer must or may make."""
    if not isinstance(body, ChatRequest) or not body.offered_tools:
        return None
    choice, is_one = body.tool_choice or "auto", body.parallel_tool_calls is False
    return allowed_calls(loaded.model, body.offered_tools, choice, at_most_one=is_one)


def _prompts(
    loaded: LoadedModel, body: OpenAIRequest, calls: Calls | None, client: str
) -> tuple[list[Tokens], AnswerFormat]:
    window = loaded.engine.window
    if isinstance(body, ChatRequest):
        tokens = chat_tokens(loaded.model, body.messages, window, body.offered_tools, client, is_answered=True)
        return [tokens], ChatFormat(calls)
    assert isinstance(body, CompletionRequest)
    prompts = prompt_tokens(loaded.model, body.prompt, window)
    require_fitting(prompts, window, prompt_names(body.prompt), is_answered=body.max_tokens != 0)
    return prompts, TextFormat(body.logprobs is not None)


def sampling_of(served: ServedModel, body: SampledRequest, choice: int = 0, calls: Calls | None = None) -> Sampling:
    """How one choice is drawn: by a seed of its own, so that choices differ and can be had again."""
    given = getattr(body, "max_completion_tokens", None) or body.max_tokens
    return Sampling(
        max_tokens=served.settings.max_tokens if given is None else given,
        temperature=1.0 if body.temperature is None else body.temperature,
        top_p=1.0 if body.top_p is None else body.top_p,
        seed=None if body.seed is None else body.seed + choice,
        stop=body.stops,
        top_logprobs=_top_logprobs(body),
        prompt_logprobs=isinstance(body, CompletionRequest) and bool(body.echo),
        schema=_schema(body),
        calls=calls,
        ignore_eos=bool(body.ignore_eos),
    )


def _schema(body: SampledRequest) -> Mapping[str, Any] | None:
    if not isinstance(body, OpenAIRequest) or body.response_format is None:
        return None
    return body.response_format.schema_to_follow


def _top_logprobs(body: SampledRequest) -> int | None:
    if isinstance(body, ChatRequest):
        return (body.top_logprobs or 0) if body.logprobs else None
    return body.logprobs if isinstance(body, CompletionRequest) else None


def system_fingerprint(loaded: LoadedModel, steering: SteeringResolution) -> str:
    return f"{loaded.model.weights_digest[:12]}-{steering.plan.fingerprint[:12] or 'unsteered'}"


async def whole(context: RequestContext, answer: Answer) -> Json:
    """The answer in one object."""
    ended = await completions(answer.generations, context.request, context.served.settings.timeout)
    for index, completion in enumerate(ended):
        answer.record.add_text(index, completion.text)
    return answer.envelope.whole(ended, answer.end([completion.outcome for completion in ended]))
