"""One prompt under several settings, in one batch."""

import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from fastapi import Request

from serving.api.errors import require_model
from serving.api.openai.completions import resolver, sampling_of
from serving.api.openai.prompts import chat_tokens, prompt_tokens
from serving.api.openai.responses import Json, usage
from serving.api.openai.streaming import completions, submit_all
from serving.api.request_record import RequestRecord
from serving.api.steering.block import applied_steering, steering_request
from serving.api.steering.requests import CompareRequest
from serving.engine.base import Generation
from serving.served_model import ServedModel
from serving.steering.resolver import SteeringResolution


@dataclass(frozen=True)
class Comparison:
    """The generations of one prompt, a setting each."""

    model: str
    generations: Sequence[Generation]
    settings: Sequence[SteeringResolution]
    record: RequestRecord

    async def told(self, request: Request, seconds: float) -> Json:
        """The answers in the order of the settings."""
        found = await completions(self.generations, request, seconds)
        self.record.ended([one.outcome for one in found])
        for index, one in enumerate(found):
            self.record.text(index, one.text)
        data = [
            {
                "index": index,
                "text": one.text,
                "finish_reason": one.outcome.reason,
                "usage": usage([one.outcome]),
                "steering": applied_steering(setting, [one.outcome]),
            }
            for index, (one, setting) in enumerate(zip(found, self.settings, strict=True))
        ]
        head = {"id": f"cmp-{uuid.uuid4().hex}", "object": "steering.comparison", "created": int(time.time())}
        return {**head, "model": self.model, "data": data}


def compare(served: ServedModel, body: CompareRequest, record: RequestRecord) -> Comparison:
    """Raises whatever the request is refused with, naming the setting at fault."""
    running = served.require_loaded()
    require_model(body.model, running.name)
    resolve = resolver(served, running)
    settings = [
        resolve.resolve(steering_request(setting.steering), f"settings.{index}.steering")
        for index, setting in enumerate(body.settings)
    ]
    if body.messages:
        tokens = chat_tokens(running.model, body.messages)
    else:
        (tokens,) = prompt_tokens(running.model, body.prompt or "")
    record.asked(lambda: running.model.tokenizer.decode(tokens), settings)
    sampling = sampling_of(served, body)
    generations = submit_all(running.engine, [(tokens, sampling, one.plan) for one in settings])
    return Comparison(running.name, generations, settings, record)
