"""Request bodies: a misspelt field is refused with the one that was meant, one at the wrong place with its place."""

import pytest
from pydantic import ValidationError

from serving.api.bento_client import GenerateRequest
from serving.api.errors import invalid_envelope
from serving.api.openai.requests import CompletionRequest, Message
from serving.api.steering.block import Steering, StopWhen


@pytest.mark.parametrize(
    ("body", "kind", "param", "message"),
    [
        (
            {"strength": {"toxicity": 1.0}},
            Steering,
            "strength",
            "there is no field `strength`; did you mean `strengths`?",
        ),
        ({"on_excede": "clamp"}, Steering, "on_excede", "there is no field `on_excede`; did you mean `on_exceed`?"),
        ({"probe_below": 0.1, "fors": 3}, StopWhen, "fors", "there is no field `fors`; did you mean `for`?"),
        (
            {"prompt": "You are", "monitor": ["toxicity"]},
            CompletionRequest,
            "monitor",
            '`monitor` is a field of `steering`: send {"steering": {"monitor": …}}',
        ),
        (
            {"probe_below": 0.1},
            Steering,
            "probe_below",
            '`probe_below` is a field of `when`: send {"when": {"probe_below": …}}',
        ),
        (
            {"prompt": "You are", "extra_body": {"steering": {}}},
            CompletionRequest,
            "extra_body",
            "`extra_body` is an argument of OpenAI's Python client: send what it holds as fields of the body",
        ),
        (
            {"prompt": "You are", "steering": {"strengths": {}}},
            GenerateRequest,
            "steering",
            "/generate has no `steering`: send its strengths as `strengths`, or all of it to /v1/completions",
        ),
        (
            {"role": "user", "content": "Hello", "steering": {}},
            Message,
            "steering",
            "`steering` is a field of the request: send it beside `messages`, not in one of them",
        ),
        ({"temperature": 1.0}, Steering, "temperature", "`temperature`: there is no such field"),
        ({"strengths": {}, "strength": {}}, Steering, "strength", "`strength`: there is no such field"),
    ],
)
def test_a_misspelt_field_is_refused_with_the_nearest(body, kind, param, message):
    with pytest.raises(ValidationError) as refused:
        kind.model_validate(body)
    error = invalid_envelope(refused.value.errors(), skip=0)["error"]
    assert (error["message"], error["param"]) == (message, param)


def test_every_alias_is_a_known_field():
    assert StopWhen.model_validate({"probe_below": 0.1, "for": 3}).for_ == 3
