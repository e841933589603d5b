"""The Responses API by OpenAI's own SDK against the real service: whole, streamed, structured, and refused."""

import json

import openai
import pytest

STEERING = {"steering": {"strengths": {"privacy": 2.0}, "monitor": ["toxicity"]}}


@pytest.fixture
def sdk(service_url):
    return openai.OpenAI(base_url=f"{service_url}/v1", api_key="none", max_retries=0)


def chat(sdk, messages, **settings):
    return sdk.chat.completions.create(model="mini", messages=messages, temperature=0, **settings)


def respond(sdk, input, **settings):
    return sdk.responses.create(model="mini", input=input, temperature=0, max_output_tokens=8, **settings)


def test_a_text_is_answered_as_a_conversation_is(sdk):
    answer = respond(sdk, "is it true", instructions="be kind", extra_body=STEERING)
    messages = [{"role": "system", "content": "be kind"}, {"role": "user", "content": "is it true"}]
    expected = chat(sdk, messages, max_tokens=8, extra_body=STEERING)
    assert answer.output_text == expected.choices[0].message.content
    assert (answer.status, answer.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (expected.usage.prompt_tokens, 8)
    assert answer.model_extra["steering"] == expected.model_extra["steering"]
    assert answer.output[0].model_extra["readings"] == expected.choices[0].model_extra["readings"]
    assert (answer.instructions, answer.temperature) == ("be kind", 0)


def test_an_answer_that_ends_by_itself_is_completed(sdk):
    text = respond(sdk, "you").output_text
    answer = respond(sdk, "you", extra_body={"stop": text[3:5]})
    assert (answer.status, answer.incomplete_details) == ("completed", None)
    assert answer.output_text == text[: text.index(text[3:5])]


def test_earlier_answers_can_be_sent_back_as_they_came(sdk):
    first = respond(sdk, "you")
    history = [{"role": "user", "content": "you"}, *first.output, {"role": "user", "content": "and"}]
    plain = [
        {"role": "user", "content": [{"type": "text", "text": "you"}]},
        {"role": "assistant", "content": first.output_text},
        {"role": "user", "content": "and"},
    ]
    expected = chat(sdk, plain, max_tokens=8).choices[0].message.content
    assert respond(sdk, history).output_text == expected


def test_a_stream_has_the_events_that_the_sdk_expects(sdk):
    whole = respond(sdk, "is it true", extra_body=STEERING)
    events = list(respond(sdk, "is it true", stream=True, extra_body=STEERING))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    kinds = [event.type for event in events]
    assert kinds[:4] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
    ]
    assert kinds[4:-4] == ["response.output_text.delta"] * (len(kinds) - 8)
    assert kinds[-4:] == [
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.incomplete",
    ]
    assert "".join(event.delta for event in events[4:-4]) == events[-4].text == whole.output_text
    ended = events[-1].response
    assert ended.output_text == whole.output_text and ended.usage == whole.usage
    assert ended.model_extra["steering"] == whole.model_extra["steering"]
    readings = [reading for event in events[4:-4] for reading in event.model_extra["readings"]]
    assert readings == whole.output[0].model_extra["readings"]
    assert {event.response.id for event in (events[0], events[-1])} == {ended.id}


def test_the_sdks_stream_helper_follows_it(sdk):
    with sdk.responses.stream(model="mini", input="you", temperature=0, max_output_tokens=8) as stream:
        deltas = [event.delta for event in stream if event.type == "response.output_text.delta"]
    assert "".join(deltas) == respond(sdk, "you").output_text


def test_json_follows_its_schema(sdk):
    schema = {"type": "object", "properties": {"yes": {"type": "boolean"}}, "required": ["yes"]}
    schema["additionalProperties"] = False
    format = {"type": "json_schema", "name": "verdict", "schema": schema, "strict": True}
    answer = sdk.responses.create(model="mini", input="you", max_output_tokens=40, text={"format": format})
    assert set(json.loads(answer.output_text)) == {"yes"}
    assert (answer.status, answer.text.format.name) == ("completed", "verdict")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"background": True}, "background"),
        ({"include": ["message.output_text.logprobs"]}, "include"),
        ({"truncation": "auto"}, "truncation"),
        ({"reasoning": {"effort": "high"}}, "reasoning"),
        ({"tools": [{"type": "web_search"}]}, "tools"),
        ({"max_tokens": 4}, "max_tokens"),
        ({"input": []}, "input"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]},
            "input.0.content.0.type",
        ),
        ({"text": {"format": {"type": "json_schema", "name": "x"}}}, "text.format.schema"),
        ({"steering": {"strengths": {"kindness": 1}}}, "steering.strengths.kindness"),
    ],
)
def test_what_it_cannot_do_is_refused_by_name(client, fields, param):
    reply = client.post("/v1/responses", json={"input": "you", "max_output_tokens": 2, **fields})
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, param), reply.text


@pytest.mark.parametrize(
    ("field", "value", "own"),
    [
        ("max_tokens", 3, "max_output_tokens"),
        ("max_completion_tokens", 3, "max_output_tokens"),
        ("messages", [], "input"),
    ],
)
def test_fields_of_chat_are_refused_with_their_names_here(client, field, value, own):
    error = client.post("/v1/responses", json={"input": "a", field: value}).json()["error"]
    assert error["param"] == field and f"`{field}` is `{own}` on this route" in error["message"]
    assert client.post("/v1/responses", json={"input": "a", "max_output_tokens": 2, "max_tokens": None}).is_success


def test_fields_that_change_nothing_are_accepted(client):
    neutral = {"store": False, "metadata": {"a": "b"}, "reasoning": {}, "include": [], "truncation": "disabled"}
    body = {"input": "you", "max_output_tokens": 2, "parallel_tool_calls": True, "tools": [], "tool_choice": "auto"}
    of_inspect = {"include": ["reasoning.encrypted_content"], "reasoning": {"summary": "auto"}}
    for given in (neutral, {**neutral, **of_inspect}):
        assert client.post("/v1/responses", json={**body, **given}).status_code == 200
