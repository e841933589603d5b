"""Comparison: one prompt under several settings, in one batch."""

import secrets
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace

from serving.api.dependencies import RequestContext
from serving.api.errors import require_model
from serving.api.fair_share import require_places
from serving.api.openai.completions import sampling_of
from serving.api.openai.prompts import chat_tokens, require_fitting, tokens_of
from serving.api.openai.responses import Json, token_readings
from serving.api.openai.streaming import completions, submit_all
from serving.api.openai.usage import usage
from serving.api.request_record import RequestRecord
from serving.api.steering.block import steering_request
from serving.api.steering.requests import CompareRequest
from serving.api.steering.resolution import resolve_steering
from serving.api.steering.responses import applied_steering
from serving.engine.base import Generation, GenerationRequest
from serving.model.language_model import LanguageModel
from serving.steering.resolution import SteeringResolution


@dataclass(frozen=True)
class ComparedGenerations:
    """The generations of one prompt, one per setting."""

    model: LanguageModel
    seed: int
    generations: Sequence[Generation]
    places: Sequence[int]
    """Which generation is each setting's."""
    settings: Sequence[SteeringResolution]
    record: RequestRecord

    async def response(self, context: RequestContext) -> Json:
        """The answers in the order of the settings."""
        ended = await completions(self.generations, context.request, context.served.settings.timeout)
        first = [self.places.index(place) for place in range(len(ended))]
        self.record.end(
            [completion.outcome for completion in ended],
            [self.settings[index].monitored_dimensions for index in first],
        )
        answers = [ended[place] for place in self.places]
        for index, completion in enumerate(answers):
            self.record.add_text(index, completion.text)
        data = [
            {
                "index": index,
                "text": completion.text,
                "finish_reason": completion.outcome.reason,
                "usage": usage([completion.outcome]),
                "steering": applied_steering(setting, [completion.outcome]),
                **token_readings(setting.monitored_dimensions, completion.events),
            }
            for index, (completion, setting) in enumerate(zip(answers, self.settings, strict=True))
        ]
        head = {"id": f"cmp-{uuid.uuid4().hex}", "object": "steering.comparison", "created": int(time.time())}
        return {**head, "model": self.model.checkpoint.model, "seed": self.seed, "data": data}


def compare(context: RequestContext, body: CompareRequest) -> ComparedGenerations:
    """All settings draw by one seed, so that equal settings give equal texts.

    Raises whatever the request is refused with, naming the setting at fault.
    """
    served, record = context.served, context.record
    loaded = served.require_loaded()
    require_model(body.model, loaded.name)
    context.require_no_header("steers no comparison: put `steering` inside each entry of `settings`")
    settings = [
        resolve_steering(served, loaded, steering_request(setting.steering), f"settings.{index}.steering").after(
            "chat" if body.messages else "none"
        )
        for index, setting in enumerate(body.settings)
    ]
    window = loaded.engine.window
    if body.messages:
        tokens = chat_tokens(loaded.model, body.messages, window, client=record.client, is_answered=True)
    else:
        tokens = tokens_of(loaded.model, body.prompt or "", window)
        require_fitting([tokens], window, ["prompt"], is_answered=True)
    record.begin(lambda: loaded.model.tokenizer.decode(tokens), settings)
    seed = secrets.randbits(31) if body.seed is None else body.seed
    sampling = replace(sampling_of(served, body), seed=seed)
    places = _places(settings)
    requests = [
        GenerationRequest(tokens, sampling, settings[index].plan, settings[index].monitor, record.client)
        for index in (places.index(place) for place in range(max(places) + 1))
    ]
    require_places(len(requests), served.settings, "settings")
    generations = context.shares.submit(record.client, loaded.engine, lambda: submit_all(loaded.engine, requests))
    return ComparedGenerations(loaded.model, seed, generations, places, settings, record)


def _places(settings: Sequence[SteeringResolution]) -> list[int]:
    """The generation of each setting: one for all that steer alike and are not monitored, whose texts would be equal
    but for the rounding of a batch.
    """
    keys = [setting.plan.fingerprint if setting.monitor is None else index for index, setting in enumerate(settings)]
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    return [numbers[key] for key in keys]
