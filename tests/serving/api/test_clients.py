"""Requests as real clients send them, over real HTTP: what passes, what is refused, and by which field."""

import json
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.serving.api.test_http import PROMPT, complete, streamed

SURROGATE = "\\ud83d"
USER = {"role": "user", "content": "you"}


def post(client, path="/v1/completions", **body):
    shared = {"max_tokens": 2, "temperature": 0}
    text = {"messages": [USER]} if "chat" in path else {"prompt": PROMPT}
    return client.post(path, json={**shared, **text, **body})


def error_of(reply, status=400):
    assert reply.status_code == status, reply.text
    return reply.json()["error"]


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/v1/completions", '{"prompt": "emoji %s"}', "prompt"),
        ("/v1/completions", '{"prompt": ["fine", "emoji %s"]}', "prompt"),
        ("/v1/completions", '{"prompt": "x", "stop": ["%s"]}', "stop"),
        ("/v1/completions", '{"prompt": "x", "steering": {"strengths": {"%s": 1}}}', "steering.strengths"),
        ("/v1/chat/completions", '{"messages": [{"role": "user", "content": "%s"}]}', "messages.0.content"),
        ("/v1/probe", '{"input": "emoji %s"}', "input"),
        ("/generate", '{"prompt": "emoji %s"}', "prompt"),
    ],
)
def test_half_a_surrogate_pair_is_refused_by_field(client, path, body, param):
    reply = client.post(path, content=body % SURROGATE, headers={"content-type": "application/json"})
    assert error_of(reply)["param"] == param


NEUTRAL = [
    {"max_tokens": 4.0, "seed": 7.0, "n": 1.0},
    {"prediction": None, "prompt_cache_retention": None, "logit_bias": None, "stop": None, "top_p": None},
    {"user": "me", "metadata": {"a": "b"}, "store": True, "service_tier": "auto", "prompt_cache_key": "k"},
    {"safety_identifier": "x", "parallel_tool_calls": True},
    {"repetition_penalty": 1.0, "top_k": -1, "min_p": 0, "min_tokens": 0, "use_beam_search": False},
    {"top_k": 0, "skip_special_tokens": True, "frequency_penalty": 0.0, "presence_penalty": 0},
    {"tools": [{"type": "function"}], "tool_choice": "none"},
    {"tools": [], "response_format": {"type": "text"}, "echo": False},
    {"stop": [f"never {number}" for number in range(64)]},
    {"logit_bias": {"5": 0, "6": 0.0, "7": None}},
    {"top_logprobs": None, "max_completion_tokens": None, "input": None},
    {"instructions": None, "previous_response_id": None, "max_output_tokens": None, "include": None, "text": None},
]


@pytest.mark.parametrize("field", ["logprobs", "response_format", "max_tokens", "messages", "n", "prompt"])
def test_a_null_of_another_route_says_nothing(client, field):
    body = {"input": "The city", "max_output_tokens": 2}
    assert client.post("/v1/responses", json={**body, field: None}).status_code == 200
    assert error_of(client.post("/v1/responses", json={**body, field: [1]}))["param"] == field


@pytest.mark.parametrize("body", NEUTRAL)
@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions"])
def test_fields_that_change_nothing_pass(client, path, body):
    assert post(client, path, **body).status_code == 200


CHANGING = [
    {"repetition_penalty": 1.1},
    {"top_k": 40},
    {"min_p": 0.1},
    {"use_beam_search": True},
    {"functions": [{"name": "f"}]},
    {"prediction": {"type": "content"}},
    {"logit_bias": {"5": 1}},
    {"logit_bias": {"5": 0, "6": -100}},
    {"logit_bias": {"5": False}},
    {"logit_bias": [0]},
    {"frequency_penalty": True},
]


@pytest.mark.parametrize("body", CHANGING)
def test_fields_that_would_change_the_answer_are_refused(client, body):
    (field,) = body
    error = error_of(post(client, "/v1/chat/completions", **body))
    assert error["param"] == field and field in error["message"]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"stop": ["a"] * 65}, "stop"),
        ({"stop": ["a", ""]}, "stop"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "wrong"}}}}, "response_format"),
        ({"stream_options": {"include_usages": True}}, "stream_options.include_usages"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages.0.content.0.type"),
        ({"messages": [{"role": "user", "content": None}]}, "messages.0.content"),
        ({"messages": [USER, {"role": "assistant", "tool_calls": [{}]}]}, "messages.1.tool_calls.0.id"),
        ({"tools": [{"type": "function"}]}, "tools.0.function"),
        ({"tools": [{"type": "web_search"}]}, "tools.0.type"),
        ({"messages": [{"role": "tool", "content": "4"}]}, "messages.0.role"),
        ({"messages": [{"role": "critic", "content": "4"}]}, "messages.0.role"),
    ],
)  # fmt: skip
def test_the_field_at_fault_is_named(client, body, param):
    assert error_of(post(client, "/v1/chat/completions", **body))["param"] == param


VERDICT = {
    "type": "object",
    "properties": {
        "verdict": {"enum": ["true", "false", "unclear"]},
        "score": {"type": "integer", "minimum": 0, "maximum": 9},
        "reasons": {"type": "array", "items": {"type": "string", "maxLength": 8}, "minItems": 1, "maxItems": 2},
    },
    "required": ["verdict", "score", "reasons"],
    "additionalProperties": False,
}


@pytest.mark.parametrize("temperature", [0, 1.5])
def test_an_answer_follows_its_schema_however_it_is_drawn(client, temperature):
    body = {
        "messages": [USER],
        "max_tokens": 200,
        "temperature": temperature,
        "seed": 3,
        "n": 3,
        "response_format": {"type": "json_schema", "json_schema": {"name": "verdict", "schema": VERDICT}},
    }
    for steering in ("off", {"strengths": {"toxicity": 3.0}}):
        answer = client.post("/v1/chat/completions", json={**body, "steering": steering}).json()
        for choice in answer["choices"]:
            verdict = json.loads(choice["message"]["content"])
            assert choice["finish_reason"] == "stop" and [*verdict] == VERDICT["required"]
            assert verdict["verdict"] in VERDICT["properties"]["verdict"]["enum"] and 0 <= verdict["score"] <= 9
            assert all(isinstance(reason, str) for reason in verdict["reasons"])
    text = client.post(
        "/v1/completions", json={"prompt": PROMPT, "max_tokens": 8, "response_format": {"type": "json_object"}}
    )
    assert text.json()["choices"][0]["text"].startswith("{")


def test_a_schema_changes_no_other_answer_of_the_batch(client, service):
    alone = complete(client, max_tokens=60, logprobs=1)["choices"]
    schema = {"type": "json_schema", "json_schema": {"schema": VERDICT}}
    with ThreadPoolExecutor(4) as pool:
        held = [pool.submit(post, client, max_tokens=60, response_format=schema) for _ in range(3)]
        free = pool.submit(complete, client, max_tokens=60, logprobs=1)
        assert free.result()["choices"][0]["text"] == alone[0]["text"]
        assert {reply.result().status_code for reply in held} == {200}


@pytest.mark.parametrize("stream", [False, True])
def test_a_schema_without_an_end_is_the_clients_own_fault(client, stream):
    endless = {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"], "additionalProperties": False}
    format = {"type": "json_schema", "json_schema": {"schema": endless}}
    error = error_of(post(client, response_format=format, stream=stream))
    assert error["param"] == "response_format" and "`#/properties/a` needs itself" in error["message"]


@pytest.mark.parametrize("stream", [False, True])
def test_a_schema_that_fails_midway_is_the_clients_own_fault(client, stream):
    long = {"type": "array", "minItems": 100_000, "items": {"type": "null"}}
    format = {"type": "json_schema", "json_schema": {"schema": long}}
    reply = client.post("/v1/completions", json={"prompt": "a", "response_format": format, "stream": stream})
    assert reply.status_code == (200 if stream else 400)
    error = json.loads(reply.text.removeprefix("data: "))["error"]
    assert error["code"] == "invalid_request" and "Too many items" in error["message"]
    assert "\n" not in error["message"]


def test_messages_of_other_clients_read_the_same(client):
    plain = [USER, {"role": "assistant", "content": ""}, USER]
    decorated = [
        {"role": "user", "content": [{"type": "text", "text": "you", "cache_control": {"type": "ephemeral"}}]},
        {"role": "assistant", "content": None, "tool_calls": [], "reasoning_content": None, "refusal": None},
        {**USER, "name": "me"},
    ]  # fmt: skip
    answers = [
        post(client, "/v1/chat/completions", messages=messages, max_tokens=8).json() for messages in (plain, decorated)
    ]
    assert answers[0]["choices"] == answers[1]["choices"]
    assert answers[0]["usage"] == answers[1]["usage"]


def test_a_prompt_is_counted_once_for_all_choices(client):
    one, four = (post(client, n=n).json()["usage"] for n in (1, 4))
    assert one["prompt_tokens"] == four["prompt_tokens"] == len(PROMPT)
    assert four["completion_tokens"] == 8
    two = post(client, prompt=["ab", "abc"], n=2).json()["usage"]
    assert two["prompt_tokens"] == 5
    chunks = streamed(client, prompt=PROMPT, n=3, max_tokens=2, stream_options={"include_usage": True})
    assert chunks[-1]["usage"] == {
        "prompt_tokens": len(PROMPT),
        "completion_tokens": 6,
        "total_tokens": len(PROMPT) + 6,
        "prompt_tokens_details": chunks[-1]["usage"]["prompt_tokens_details"],
    }


def test_a_prompt_beyond_the_context_is_400_in_openais_words(client):
    error = error_of(post(client, prompt="x" * 600))
    assert error["code"] == "context_length_exceeded"
    assert "maximum context length is 512 tokens" in error["message"] and "600" in error["message"]


FULL = [40 + number % 50 for number in range(512)]


@pytest.mark.parametrize(
    ("prompt", "field"),
    [(FULL, "prompt"), ([[41], FULL], "prompt.1"), ("x" * 512, "prompt"), (["ab", "x" * 512], "prompt.1")],
)
def test_a_prompt_that_fills_the_window_is_scored(client, prompt, field):
    body = {"prompt": prompt, "max_tokens": 0, "logprobs": 0, "echo": True}
    answer = complete(client, **body)
    logprobs = answer["choices"][-1]["logprobs"]
    assert len(logprobs["token_logprobs"]) == 512 and answer["usage"]["completion_tokens"] == 0
    chunks = [chunk["choices"][0]["logprobs"] for chunk in streamed(client, **body)]
    assert logprobs in chunks
    error = error_of(post(client, **{**body, "max_tokens": 1}))
    assert (error["code"], error["param"]) == ("context_length_exceeded", field)


def test_a_full_window_has_the_plain_models_numbers(client, deployment):
    (choice,) = complete(client, prompt=FULL, max_tokens=0, logprobs=0, echo=True)["choices"]
    expected = prompt_log_likelihoods(deployment, FULL)
    assert choice["logprobs"]["token_logprobs"][1:] == pytest.approx(expected, abs=1e-4)


def test_a_prompt_may_leave_room_for_one_token(client):
    body = {"prompt": "x" * 511, "logprobs": 0, "echo": True}
    assert len(complete(client, **body, max_tokens=1)["choices"][0]["logprobs"]["tokens"]) == 512
    assert complete(client, **body, max_tokens=9)["choices"][0]["finish_reason"] == "length"
    error = error_of(post(client, **{**body, "prompt": "x" * 513}, max_tokens=0))
    assert error["code"] == "context_length_exceeded" and "one of them" not in error["message"]


def test_streamed_offsets_are_those_of_the_whole_answer(client):
    whole = complete(client, logprobs=0)["choices"][0]["logprobs"]
    chunks = [chunk["choices"][0]["logprobs"] for chunk in streamed(client, prompt=PROMPT, logprobs=0)]
    offsets = [offset for logprobs in chunks if logprobs for offset in logprobs["text_offset"]]
    assert offsets == whole["text_offset"] and offsets[-1] > 0


def test_a_chat_stream_opens_with_its_first_token(service, client):
    body = {"messages": [USER], "stream": True, "max_tokens": 3, "temperature": 0}
    with client.stream("POST", "/v1/chat/completions", json=body) as reply:
        lines = [line for line in reply.iter_lines() if line]
    assert json.loads(lines[0].removeprefix("data: "))["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    usage = streamed(
        client, prompt=PROMPT, max_tokens=3, stream_options={"include_usage": True, "continuous_usage_stats": True}
    )
    assert [chunk["usage"]["completion_tokens"] for chunk in usage] == [1, 2, 3, 3, 3]


def test_settings_are_compared_by_one_seed(client):
    body = {"prompt": PROMPT, "max_tokens": 16, "settings": [{"steering": "off"}, {"steering": "off"}]}
    reply = client.post("/v1/steering/compare", json=body).json()
    first, second = (answer["text"] for answer in reply["data"])
    assert first == second
    again = client.post("/v1/steering/compare", json={**body, "seed": reply["seed"]}).json()
    assert again["data"][0]["text"] == first


def test_a_comparison_takes_what_changes_nothing(client):
    body = {"prompt": PROMPT, "max_tokens": 2, "settings": [{}]}
    assert client.post("/v1/steering/compare", json={**body, "stream": False, "n": 1}).status_code == 200
    for field, value in {"stream": True, "n": 2}.items():
        assert error_of(client.post("/v1/steering/compare", json={**body, field: value}))["param"] == field


def test_settings_that_are_equal_are_one_answer(client):
    def generated():
        (line,) = (
            line
            for line in client.get("/metrics").text.splitlines()
            if line.startswith("trusttrace_generated_tokens_total")
        )
        return float(line.split()[-1])

    strengths = [{"strengths": {"toxicity": strength}} for strength in (1.0, 1.0, 2.0)]
    settings = [{"steering": steering} for steering in ("off", *strengths, "off")]
    before = generated()
    body = {"prompt": PROMPT, "max_tokens": 6, "temperature": 0, "ignore_eos": True, "settings": settings}
    data = client.post("/v1/steering/compare", json=body).json()["data"]
    assert generated() - before == 3 * 6
    for index, setting in enumerate(settings):
        alone = client.post("/v1/steering/compare", json={**body, "settings": [setting]}).json()["data"][0]
        assert {**alone, "index": index} == data[index]


def test_health_routes_answer_every_prober(client):
    for path in ("/livez", "/healthz", "/health", "/readyz", "/metrics", "/"):
        assert client.get(path).status_code == 200
        head = client.head(path)
        assert (head.status_code, head.content) == (200, b"")


def test_a_header_steers_as_the_body_does(client):
    body = {"prompt": PROMPT, "max_tokens": 8, "temperature": 0}
    steering = {"strengths": {"toxicity": 1.5, "privacy": -1.0}}
    by_body = client.post("/v1/completions", json={**body, "steering": steering}).json()
    header = {"X-Steering": "toxicity=1.5, privacy=-1"}
    by_header = client.post("/v1/completions", json=body, headers=header).json()
    assert by_header["choices"] == by_body["choices"] and by_header["steering"] == by_body["steering"]
    overridden = client.post("/v1/completions", json={**body, "steering": "off"}, headers=header).json()
    assert overridden["steering"]["applied"] == []
    two = [*client.headers.multi_items(), ("X-Steering", "toxicity=1.5"), ("X-Steering", "privacy=-1")]
    by_two = client.post("/v1/completions", json=body, headers=two).json()
    assert by_two["steering"] == by_body["steering"]
    for wrong, status, code in (
        ("", 400, "invalid_steering"),
        ("off;prompt=all", 400, "invalid_steering"),
        ("toxicity", 400, "invalid_steering"),
        ("toxicity=nan", 400, "invalid_steering"),
        ("toxicity=1,toxicity=2", 400, "invalid_steering"),
        ("toxicty=1", 400, "invalid_steering"),
        ("toxicity=1;prompt=some", 400, "invalid_steering"),
        ("toxicity=1;prompt=all;prompt=all", 400, "invalid_steering"),
        ("toxicity=1;", 400, "invalid_steering"),
        ("toxicity=1e6", 422, "dose_exceeded"),
    ):
        reply = client.post("/v1/completions", json=body, headers={"X-Steering": wrong})
        error = error_of(reply, status)
        assert error["code"] == code and error["param"].startswith("x-steering")
    twice = client.post("/v1/completions", json=body, headers={"X-Steering": "toxicity=1,toxicity=2"})
    assert error_of(twice)["message"].endswith("toxicity stands twice")


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/v1/completions", {"prompt": [5, 99_999]}, "prompt"),
        ("/v1/completions", {"prompt": [[5], [-1]]}, "prompt.1"),
        ("/v1/hidden_states", {"input": [[5], [99_999]], "layer": 1}, "input.1"),
    ],
)
def test_a_token_that_does_not_exist_is_refused_by_field(client, path, body, param):
    error = error_of(client.post(path, json=body))
    assert error["param"] == param and "does not exist" in error["message"]


def test_a_header_steers_bentos_route_and_no_comparison(client):
    header = {"X-Steering": "toxicity=1.5"}
    generated = client.post("/generate", json={"prompt": PROMPT, "max_tokens": 2}, headers=header).json()
    (applied,) = generated["steering"]["applied"]
    assert (applied["dimension"], applied["strength"]) == ("toxicity", 1.5)
    body = {"prompt": PROMPT, "max_tokens": 2, "strengths": {"privacy": 1.0}}
    by_body = client.post("/generate", json=body, headers=header).json()
    assert [vector["dimension"] for vector in by_body["steering"]["applied"]] == ["privacy"]
    compared = client.post("/v1/steering/compare", json={"prompt": PROMPT, "settings": [{}]}, headers=header)
    assert error_of(compared)["param"] == "x-steering"


def test_header_and_alias_say_which_tokens_are_steered(client):
    body = {"prompt": PROMPT, "max_tokens": 4, "temperature": 0, "logprobs": 0, "echo": True}
    everywhere = {"strengths": {"toxicity": 1.5}, "apply": {"prompt": "all", "generation": "all"}}
    by_body = client.post("/v1/completions", json={**body, "steering": everywhere}).json()
    assert by_body["steering"]["tokens_steered"] == {"prompt": len(PROMPT), "generation": 4}
    (by_vector,) = by_body["steering"]["applied"]
    reference = f"{by_vector['vector']}/{by_vector['version']}"
    vectors = {"vectors": [{"ref": reference, "strength": 1.5, "apply": everywhere["apply"]}]}
    for steered in (
        client.post("/v1/completions", json={**body, "steering": vectors}),
        client.post("/v1/completions", json=body, headers={"X-Steering": "toxicity=1.5;prompt=all"}),
        client.post("/v1/completions", json={**body, "model": "mini@toxicity=1.5; prompt=all; generation=all"}),
    ):
        assert steered.json()["choices"] == by_body["choices"]
    plain = client.post("/v1/completions", json={**body, "steering": {"strengths": {"toxicity": 1.5}}}).json()
    assert plain["choices"] != by_body["choices"]
    nothing = client.post("/v1/completions", json={**body, "steering": {"apply": {"prompt": "all"}}})
    assert error_of(nothing)["param"] == "steering.apply"


def test_a_model_alias_steers_and_is_listed(client):
    names = [model["id"] for model in client.get("/v1/models").json()["data"]]
    assert names[0] == "mini" and "mini@toxicity=2" in names
    for name in names:
        answer = post(client, model=name).json()
        expected = [] if name == "mini" else [name.partition("@")[2].partition("=")[0]]
        assert [vector["dimension"] for vector in answer["steering"]["applied"]] == expected
    assert client.get("/v1/models/mini@privacy=1,toxicity=0.5").json()["id"] == "mini@privacy=1,toxicity=0.5"
    assert error_of(post(client, model="mini@toxicity"))["param"] == "model"
    assert error_of(post(client, model="other@toxicity=1"), 404)["code"] == "model_not_found"
    assert client.get("/v1/models/mini@toxicity=1e6").status_code == 422


def test_a_refused_request_is_logged_with_code_and_field(service):
    with httpx.Client(base_url=service.url, headers={"x-request-id": "refused-1"}) as client:
        post(client, top_k=40)
    deadline = time.monotonic() + 10  # the line is written after the answer
    while not (lines := [line for line in service.log.read_text().splitlines() if "refused-1" in line]):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    (line,) = lines
    record = json.loads(line[line.index("{") :])
    assert (record["status"], record["code"], record["param"]) == (400, "invalid_request", "top_k")


def prompt_log_likelihoods(deployment, tokens):
    """Each token's log-probability behind those before it, by transformers."""
    import torch
    from transformers import AutoModelForCausalLM

    network = AutoModelForCausalLM.from_pretrained(deployment.model / "step_000010", dtype=torch.float32)
    with torch.no_grad():
        rows = network(torch.tensor([tokens])).logits[0].log_softmax(-1)
    return [float(rows[position, token]) for position, token in enumerate(tokens[1:])]


def test_echoed_log_likelihoods_are_those_of_transformers(client, deployment):
    tokens = [40 + number % 50 for number in range(300)]  # longer than one chunk of a prompt
    prompts = [tokens, tokens[:7], tokens[:1], tokens[:257]]  # of the last, one token is left for the second chunk
    body = {"prompt": prompts, "max_tokens": 1, "logprobs": 1, "echo": True, "temperature": 0}
    for choice, prompt in zip(client.post("/v1/completions", json=body).json()["choices"], prompts, strict=True):
        logprobs = choice["logprobs"]
        assert logprobs["token_logprobs"][0] is None and logprobs["top_logprobs"][0] is None
        assert logprobs["token_logprobs"][1:-1] == pytest.approx(prompt_log_likelihoods(deployment, prompt), abs=1e-4)
        assert {len(logprobs[name]) for name in logprobs} == {len(prompt) + 1}
        for own, top in zip(logprobs["token_logprobs"][1:], logprobs["top_logprobs"][1:], strict=True):
            assert len(top) == 1 and own <= max(top.values())
        assert logprobs["token_logprobs"][-1] == max(logprobs["top_logprobs"][-1].values())


def test_echo_repeats_the_prompt_before_the_answer(client):
    answer = complete(client, max_tokens=4, logprobs=2)["choices"][0]
    echoed = complete(client, max_tokens=4, logprobs=2, echo=True)["choices"][0]
    assert echoed["text"] == PROMPT + answer["text"]
    offsets = echoed["logprobs"]["text_offset"]
    assert offsets[: len(PROMPT)] == list(range(len(PROMPT)))
    assert offsets[len(PROMPT) :] == [len(PROMPT) + offset for offset in answer["logprobs"]["text_offset"]]
    echoed_logprobs = echoed["logprobs"]["token_logprobs"][len(PROMPT) :]
    assert echoed_logprobs == pytest.approx(answer["logprobs"]["token_logprobs"], abs=1e-5)
    chunks = streamed(client, prompt=PROMPT, max_tokens=4, logprobs=2, echo=True)
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == echoed["text"]
    parts = [chunk["choices"][0]["logprobs"] for chunk in chunks if chunk["choices"][0]["logprobs"]]
    for name in ("tokens", "token_logprobs", "text_offset"):
        assert [value for part in parts for value in part[name]] == echoed["logprobs"][name]
    scored = complete(client, max_tokens=0, logprobs=0, echo=True)
    assert scored["choices"][0]["text"] == PROMPT and scored["usage"]["completion_tokens"] == 0
    assert complete(client, max_tokens=0, echo=True)["choices"][0]["logprobs"] is None
    assert error_of(post(client, max_tokens=0))["param"] == "max_tokens"


def test_an_echoed_prompt_is_scored_as_it_is_steered(client):
    body = {"max_tokens": 1, "logprobs": 0, "echo": True}
    everywhere = {"ref": "steer.mini.toxicity/1", "strength": 3, "apply": {"prompt": "all"}}
    plain, last, whole = (
        complete(client, steering=steering, **body)["choices"][0]["logprobs"]["token_logprobs"]
        for steering in ("off", {"strengths": {"toxicity": 3}}, {"vectors": [everywhere]})
    )
    assert plain[1:-1] == pytest.approx(last[1:-1], abs=1e-5)
    assert all(abs(a - b) > 1e-4 for a, b in zip(plain[1:-1], whole[1:-1], strict=True))
