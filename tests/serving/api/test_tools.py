"""Tools by OpenAI's own SDK against the real service, whose model's chat template does not know them."""

import json

import openai
import pytest

USER = {"role": "user", "content": "Weather in Lyon?"}
WEATHER = {
    "type": "function",
    "function": {
        "name": "sky",
        "parameters": {
            "$defs": {"U": {"enum": ["C", "F"]}},
            "type": "object",
            "properties": {"at": {"enum": ["Lyon", "Nice"]}, "in": {"$ref": "#/$defs/U"}},
            "required": ["at", "in"],
            "additionalProperties": False,
        },
    },
}
CLOCK = {"type": "function", "function": {"name": "clock"}}
WRONG = {"type": "function", "function": {"name": "f", "parameters": {"type": "wrong"}}}
REQUIRED = {"tools": [WEATHER], "tool_choice": "required"}
NAMED = {"type": "function", "function": {"name": "sky"}}


@pytest.fixture
def sdk(service_url):
    return openai.OpenAI(base_url=f"{service_url}/v1", api_key="none", max_retries=0)


def ask(sdk, messages=(USER,), tools=(WEATHER,), choice="required", **settings):
    return sdk.chat.completions.create(
        model="mini", messages=list(messages), tools=list(tools), tool_choice=choice, max_tokens=120, seed=3, **settings
    )


@pytest.mark.parametrize("choice", ["required", NAMED])
def test_a_call_follows_the_schema_of_its_function(sdk, choice):
    answer = ask(sdk, tools=(WEATHER, CLOCK) if choice is NAMED else (WEATHER,), choice=choice, n=3)
    for given in answer.choices:
        (call,) = given.message.tool_calls
        arguments = json.loads(call.function.arguments)
        assert (given.finish_reason, given.message.content, call.function.name) == ("tool_calls", None, "sky")
        assert arguments["at"] in ("Lyon", "Nice") and arguments["in"] in ("C", "F") and len(arguments) == 2
    assert len({given.message.tool_calls[0].id for given in answer.choices}) == 3


def test_a_stream_ends_with_the_same_call(sdk):
    (call,) = ask(sdk).choices[0].message.tool_calls
    chunks = list(ask(sdk, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == ""
    (streamed,) = [delta for chunk in chunks for delta in chunk.choices[0].delta.tool_calls or ()]
    assert (streamed.index, streamed.function) == (0, type(streamed.function)(**call.function.model_dump()))
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


def test_calls_and_their_results_go_on_as_a_conversation(sdk):
    answer = ask(sdk).choices[0].message
    result = {"role": "tool", "tool_call_id": answer.tool_calls[0].id, "content": "18 degrees"}
    history = [USER, answer.model_dump(exclude_none=True), result]
    text = sdk.chat.completions.create(
        model="mini", messages=history, tools=[WEATHER], tool_choice="none", max_tokens=4, temperature=0
    )
    assert text.choices[0].finish_reason == "length" and text.choices[0].message.tool_calls is None
    assert ask(sdk, history).choices[0].message.tool_calls


def test_an_answer_that_breaks_off_within_a_call_is_text(sdk):
    cut = sdk.chat.completions.create(
        model="mini", messages=[USER], tools=[WEATHER], tool_choice="required", max_tokens=9
    )
    (given,) = cut.choices
    assert (given.finish_reason, given.message.tool_calls, given.message.content) == ("length", None, '{"name": ')


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [WEATHER]}, "tool_choice"),
        ({"tools": [WEATHER], "tool_choice": "auto"}, "tool_choice"),
        ({**REQUIRED, "tools": [WEATHER, WEATHER]}, "tools"),
        ({"tools": [CLOCK], "tool_choice": NAMED}, "tool_choice"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({**REQUIRED, "response_format": {"type": "json_object"}}, "response_format"),
        ({**REQUIRED, "tools": [WRONG]}, "tools.0.function.parameters"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(client, fields, param):
    reply = client.post("/v1/chat/completions", json={"messages": [USER], "max_tokens": 4, **fields})
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, param), reply.text
