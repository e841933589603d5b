"""Request bodies: a misspelt field is refused with the one that was meant, one at the wrong place with its place."""

import pytest
from pydantic import ValidationError

from serving.api import request_body
from serving.api.bento_client import GenerateRequest
from serving.api.errors import invalid_envelope
from serving.api.feedback_routes import FeedbackRequest
from serving.api.hidden_states_routes import HiddenStatesRequest
from serving.api.openai.requests import ChatRequest, CompletionRequest, Message
from serving.api.probe.requests import ProbeRequest
from serving.api.responses_api.requests import ResponsesRequest
from serving.api.steering.block import Steering, StopWhen
from serving.api.steering.requests import CompareRequest


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


MANY, PART = 500, {"type": "text", "text": "a", "x": 1}


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({"prompt": [None] * MANY}, CompletionRequest),
        ({"prompt": [[None] * MANY] * 2}, CompletionRequest),
        ({"prompt": "a", "stop": [None] * MANY}, CompletionRequest),
        ({"prompt": "a", "steering": {"strengths": {str(number): None for number in range(MANY)}}}, CompletionRequest),
        ({"messages": [{"role": "user", "content": [PART] * MANY}]}, ChatRequest),
        ({"messages": [{"role": "user", "content": "a", "x": 1}] * MANY}, ChatRequest),
        ({"messages": [{"role": "assistant", "tool_calls": [1] * 60}]}, ChatRequest),
        ({"messages": [{"role": "user", "content": "a"}], "tools": [1] * 120}, ChatRequest),
        ({"input": [1] * MANY}, ResponsesRequest),
        ({"input": [{"role": "user", "content": [1] * MANY}]}, ResponsesRequest),
        ({"input": [None] * MANY}, ProbeRequest),
        ({"input": "a", "dimensions": [None] * 60}, ProbeRequest),
        ({"input": [None] * MANY, "layer": 1}, HiddenStatesRequest),
        ({"prompt": "a", "settings": [1] * MANY}, CompareRequest),
        ({"vectors": [1] * MANY}, Steering),
        ({"vectors": [{"ref": "a", "layers": [None] * MANY}]}, Steering),
        ({"monitor": [None] * MANY}, Steering),
        ({f"x{number}": 1 for number in range(MANY)}, Steering),
    ],
)
def test_a_body_is_refused_by_its_first_fault(body, kind):
    """Each further one costs the event loop time, and a body has room for hundreds of thousands."""
    with pytest.raises(ValidationError) as refused:
        kind.model_validate(body)
    assert refused.value.error_count() <= 4  # one for each type that a field may be of


def test_few_of_many_unknown_fields_are_compared(monkeypatch):
    compared, find = [], request_body.get_close_matches
    monkeypatch.setattr(
        request_body, "get_close_matches", lambda *given, **how: compared.append(given) or find(*given, **how)
    )
    with pytest.raises(ValidationError) as refused:
        CompletionRequest.model_validate({"prompt": "a", **{f"x{number}": 1 for number in range(MANY)}})
    assert len(compared) == request_body.SUGGESTED
    error = invalid_envelope(refused.value.errors(), skip=0)["error"]
    assert error["param"] == "x0" and f"{MANY - 1} others" in error["message"]
    with pytest.raises(ValidationError):
        CompletionRequest.model_validate({"prompt": "a", "temperatur" * 1000: 1})
    assert len(compared[-1]) <= request_body.LONGEST_NAME + 1


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"value": None}, "value", "true, false, a number or a text"),
        ({"value": 1, "name": ""}, "name", "1 to 100 letters"),
        ({"value": 10**400}, "value", "valid"),
        ({"value": "a" * 1001}, "value", "at most 1000 characters"),
        ({"value": "a\0"}, "value", "NUL"),
        ({"value": 1, "comment": "\0"}, "comment", "NUL"),
    ],
)
def test_feedback_that_cannot_be_kept_is_refused(fields, param, words):
    with pytest.raises(ValidationError) as refused:
        FeedbackRequest.model_validate({"request_id": "a", **fields})
    error = invalid_envelope(refused.value.errors(), skip=0)["error"]
    assert error["param"] == param and words in error["message"]
