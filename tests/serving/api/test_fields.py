"""Fields of requests over real HTTP: what clients send beside the plain ones, and which field a refusal names."""

import json

import openai
import pytest

PROMPT, USER = "The city of Lyon", {"role": "user", "content": "you"}
CHAT, COMPLETIONS, RESPONSES = "/v1/chat/completions", "/v1/completions", "/v1/responses"
HALF = "\ud83d"
CALL = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
VERSIONS = "/v1/steering/vectors/steer.mini.toxicity/versions"
RESULT = {"role": "tool", "tool_call_id": "a", "content": "4"}


def ask(client, path=COMPLETIONS, headers=None, **body):
    text = {CHAT: {"messages": [USER]}, RESPONSES: {"input": "you", "max_output_tokens": 2}}.get(path)
    shared = text or {"prompt": PROMPT}
    limit = {} if path == RESPONSES else {"max_tokens": 2}
    return client.post(path, json={**shared, **limit, "temperature": 0, **body}, headers=headers)


def error_of(reply, status=400):
    assert reply.status_code == status, reply.text
    return reply.json()["error"]


def applied(reply):
    assert reply.status_code == 200, reply.text
    return {vector["dimension"]: vector["strength"] for vector in reply.json()["steering"]["applied"]}


def called(**function):
    arguments = {"name": "f", "arguments": "{}", **function}
    return [USER, {"role": "assistant", "tool_calls": [{**CALL, "function": arguments}]}, RESULT]


PARAMETERS = {"properties": {"a": {"description": HALF}}}


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        (
            CHAT,
            {
                "messages": [USER],
                "tool_choice": "required",
                "tools": [{"type": "function", "function": {"name": "f", "parameters": PARAMETERS}}],
            },
            "tools.0.function.parameters",
        ),
        (CHAT, {"messages": called(arguments=json.dumps({"a": HALF}))}, "messages.1.tool_calls.0.function.arguments"),
        (
            RESPONSES,
            {"input": "x", "text": {"format": {"type": "json_schema", "schema": {"enum": [HALF]}}}},
            "text.format.schema",
        ),
        (RESPONSES, {"input": "x", "metadata": {"a": {"b": HALF}}}, "metadata"),
    ],
)
def test_half_a_surrogate_pair_is_found_however_deep(client, path, body, param):
    error = error_of(client.post(path, content=json.dumps(body), headers={"content-type": "application/json"}))
    assert error["param"] == param and "half of a surrogate pair" in error["message"]


def test_arguments_nested_too_deep_are_refused_by_field(client):
    error = error_of(ask(client, CHAT, messages=called(arguments='{"a": ' + "[" * 100_000)))
    assert error["param"] == "messages.1.tool_calls.0.function.arguments" and "too deep" in error["message"]


@pytest.mark.parametrize("kind", ["string", "array", ["string", "null"], 5])
def test_arguments_that_are_no_object_are_refused(client, kind):
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": kind}}}
    error = error_of(ask(client, CHAT, tools=[tool], tool_choice="required"))
    assert error["param"] == "tools.0.function.parameters" and "`type`" in error["message"]


@pytest.mark.parametrize(
    "parameters",
    [
        {"properties": {"a": {"enum": [4]}}, "required": ["a"]},
        {"anyOf": [{"enum": [5]}, {"type": "object", "properties": {"a": {"enum": [4]}}, "required": ["a"]}]},
        {"type": ["object", "null"], "properties": {"a": {"enum": [4]}}, "required": ["a"]},
        {"$ref": "#/$defs/A", "$defs": {"A": {"properties": {"a": {"enum": [4]}}, "required": ["a"]}}},
    ],
)
def test_arguments_are_an_object_whatever_the_schema_leaves_open(client, parameters):
    tool = {"type": "function", "function": {"name": "f", "parameters": parameters}}
    (choice,) = ask(client, CHAT, tools=[tool], tool_choice="required", max_tokens=200).json()["choices"]
    (call,) = choice["message"]["tool_calls"]
    assert json.loads(call["function"]["arguments"])["a"] == 4


@pytest.mark.parametrize(
    "body",
    [
        {"n": 2, "best_of": 2},
        {"moderation": None, "prompt_cache_options": None, "logits_processors": None, "prompt_embeds": None},
        {"early_stopping": False, "include_reasoning": True, "ignore_eos": None, "chat_template_kwargs": {"a": None}},
    ],
)
@pytest.mark.parametrize("path", [COMPLETIONS, CHAT])
def test_neutral_fields_of_newer_clients_pass(client, path, body):
    assert ask(client, path, **body).status_code == 200


def test_special_tokens_are_added_as_each_route_does(client):
    for path, neutral in ((COMPLETIONS, True), (CHAT, False)):
        assert ask(client, path, add_special_tokens=neutral).status_code == 200
        assert error_of(ask(client, path, add_special_tokens=not neutral))["param"] == "add_special_tokens"
    assert error_of(ask(client, n=2, best_of=3))["param"] == "best_of"


def test_messages_come_back_as_clients_keep_them(client):
    kept = called(parsed_arguments={"a": 1})
    kept[1] |= {"content": "4", "parsed": {"a": 1}, "provider_specific_fields": {"refusal": None}}
    kept[1]["tool_calls"][0]["index"] = 0
    plain = called()
    plain[1]["content"] = "4"
    answers = [ask(client, CHAT, messages=messages, max_tokens=8).json() for messages in (kept, plain)]
    assert answers[0]["choices"] == answers[1]["choices"]


def test_a_parsed_answer_of_the_sdk_goes_on(service_url):
    sdk = openai.OpenAI(base_url=f"{service_url}/v1", api_key="none", max_retries=0)
    format = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"enum": [{"a": 4}]}}}
    parsed = sdk.chat.completions.parse(model="mini", messages=[USER], response_format=format, max_tokens=40)
    message = parsed.choices[0].message
    again = sdk.chat.completions.create(model="mini", messages=[USER, message, USER], max_tokens=2, temperature=0)
    assert again.choices[0].finish_reason == "length"


def test_a_body_that_steers_nothing_goes_with_header_and_name(client):
    header, monitor = {"X-Steering": "privacy=0.5;prompt=all"}, {"monitor": ["toxicity"]}
    for body in ({}, monitor, {"on_exceed": "clamp"}):
        assert applied(ask(client, model="mini@privacy=1", steering=body)) == {"privacy": 1.0}
        assert applied(ask(client, headers=header, model="mini@privacy=1", steering=body)) == {"privacy": 0.5}
    monitored = ask(client, headers=header, steering=monitor).json()
    assert len(monitored["choices"][0]["readings"]) == 2
    assert monitored["steering"]["tokens_steered"]["prompt"] == len(PROMPT)
    last = ask(client, headers=header, steering={"apply": {"prompt": "none"}}).json()
    assert last["steering"]["tokens_steered"] == {"prompt": 0, "generation": 2}
    assert applied(ask(client, headers=header, steering={"strengths": {"toxicity": 1.0}})) == {"toxicity": 1.0}
    assert applied(ask(client, model="mini@privacy=1", steering="off")) == {}


def test_off_in_the_header_clears_the_default_beside_a_monitor(client):
    before = client.get("/v1/steering/default").json()
    try:
        assert client.put("/v1/steering/default", json={"strengths": {"fairness": 1.0}}).status_code == 200
        monitor = {"monitor": ["toxicity"]}
        assert applied(ask(client, steering=monitor)) == {"fairness": 1.0}
        assert applied(ask(client, headers={"X-Steering": "off"}, steering=monitor)) == {}
    finally:
        client.delete("/v1/steering/default")
    assert client.get("/v1/steering/default").json() == before


@pytest.mark.parametrize("amount", ["１", "1_0", "٣"])
def test_strengths_are_written_in_plain_digits(client, amount):
    assert error_of(ask(client, model=f"mini@privacy={amount}"))["param"] == "model"


def test_a_header_may_name_dimensions_in_any_script(client):
    reply = client.post(COMPLETIONS, json={"prompt": PROMPT}, headers={"X-Steering": "诚实=1".encode()})
    assert error_of(reply)["param"] == "x-steering.strengths.诚实"
    for latin in (b"v\xe9rit\xe9=1", b"v\xc3\xa9rit\xc3\xa9=1"):
        reply = client.post(COMPLETIONS, json={"prompt": PROMPT}, headers={"X-Steering": latin})
        assert error_of(reply)["param"] == "x-steering.strengths.vérité"


LONG = "word " * 600


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        (COMPLETIONS, {"prompt": LONG}, "prompt"),
        (COMPLETIONS, {"prompt": ["a", "x" * 512]}, "prompt.1"),
        (COMPLETIONS, {"prompt": [5] * 512, "stream": True}, "prompt"),
        (CHAT, {"messages": [{"role": "user", "content": LONG}]}, "messages"),
        (RESPONSES, {"input": LONG}, "input"),
        ("/generate", {"prompt": LONG, "chat": True}, "prompt"),
        ("/v1/steering/compare", {"prompt": LONG, "settings": [{}]}, "prompt"),
        ("/v1/probe", {"input": ["a", "x" * 513]}, "input.1"),
        ("/v1/probe", {"input": "x", "prompt": "x" * 513}, "prompt"),
        ("/v1/probe", {"input": ["x", "x" * 20], "prompt": "x" * 500}, "input.1"),
        ("/v1/hidden_states", {"input": ["a", "x" * 513], "layer": 1}, "input.1"),
    ],
)
def test_a_text_beyond_the_context_is_named(client, path, body, param):
    error = error_of(client.post(path, json=body))
    assert (error["code"], error["param"]) == ("context_length_exceeded", param)
    assert "maximum context length is 512 tokens" in error["message"]


def test_a_text_as_long_as_the_context_is_scored(client):
    assert client.post("/v1/probe", json={"input": "x" * 512}).status_code == 200


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        (COMPLETIONS, {"prompt": [1, "a"]}, "prompt.1"),
        (COMPLETIONS, {"prompt": ["a", 1]}, "prompt.1"),
        (COMPLETIONS, {"prompt": [[1], "a"]}, "prompt.1"),
        (COMPLETIONS, {"prompt": [[1], [2, "a"]]}, "prompt.1.1"),
        (CHAT, {"tools": [{"type": "function", "function": {"name": "f"}}], "tool_choice": "any"}, "tool_choice"),
        (CHAT, {"messages": [{"role": "assistant", "content": "refused by the template"}]}, "messages"),
        (RESPONSES, {"input": [USER] * 1000}, "input"),
        (RESPONSES, {"text": {"format": {"type": "json_schema", "schema": {"type": "wrong"}}}}, "text.format"),
    ],
)
def test_the_field_at_fault_is_the_one_that_was_sent(client, path, body, param):
    assert error_of(ask(client, path, **body))["param"] == param


def test_a_schema_that_fails_on_the_way_is_named(client):
    endless = {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"], "additionalProperties": False}
    json_schema = {"type": "json_schema", "json_schema": {"schema": endless}}
    assert error_of(ask(client, CHAT, response_format=json_schema))["param"] == "response_format"
    assert error_of(ask(client, RESPONSES, text={"format": {"type": "json_schema", "schema": endless}}))["param"] == (
        "text.format"
    )


def test_a_response_tells_its_metadata(client):
    reply = ask(client, RESPONSES, metadata={"a": "b"}, reasoning={"effort": None, "summary": None})
    assert (reply.status_code, reply.json()["metadata"]) == (200, {"a": "b"})


def test_a_refusal_repeats_little_of_what_was_sent(client):
    error = error_of(ask(client, **{"x" * 100_000: 1}))
    assert len(error["param"]) < 1100 and len(error["message"]) < 1100


@pytest.mark.parametrize(
    ("method", "path", "body", "param", "told"),
    [
        ("PUT", "/v1/steering/default", {"strengths": {"toxicity": 900}}, "strengths.toxicity", "; lower it"),
        ("PUT", "/v1/steering/default", {"when": {}}, "when", "but this request has none: add one"),
        ("POST", "/generate", {"prompt": "a", "strengths": {"toxicity": 900}}, "strengths.toxicity", "; lower it"),
        ("POST", "/v1/completions", {"prompt": "a", "use_beam_search": True}, "use_beam_search", "or at false"),
        ("POST", "/v1/responses", {"input": "a", "reasoning": {"effort": "low"}}, "reasoning", '"summary": "auto"}'),
        ("POST", "/v1/steering/vectors", {"ref": "steer.mini.toxicity/9"}, "ref", "has no version 9; versions: 1"),
        ("DELETE", "/v1/steering/vectors", {"ref": "toxicity"}, "ref", "or …@champion"),
        ("GET", f"{VERSIONS}/9", None, "version", "has no version 9; versions: 1"),
        ("GET", f"{VERSIONS}/champion/export", None, "version", "a number; GET /v1/steering/vectors lists them"),
    ],
)
def test_the_way_out_is_one_of_that_route(client, method, path, body, param, told):
    error = client.request(method, path, json=body).json()["error"]
    assert error["param"] == param and error["message"].endswith(told)
