"""The real service over real HTTP: what OpenAI's SDK, BentoML's client and plain requests get."""

import json
import re
import threading
import time
import warnings

import bentoml
import httpx
import numpy as np
import openai
import psutil
import pytest
from gguf import GGUFReader

from registry.serialization import vector_from_bytes
from tests.forked import run_forked

PROMPT = "The city of Lyon"


@pytest.fixture
def sdk(service_url):
    return openai.OpenAI(base_url=f"{service_url}/v1", api_key="none", max_retries=0)


def complete(client, **body):
    reply = client.post("/v1/completions", json={"prompt": PROMPT, "max_tokens": 8, "temperature": 0, **body})
    assert reply.status_code == 200, reply.text
    return reply.json()


def streamed(client, path="/v1/completions", **body):
    asked = {"max_tokens": 8, "temperature": 0, "stream": True, **body}
    with client.stream("POST", path, json=asked) as reply:
        lines = [line.removeprefix("data: ") for line in reply.iter_lines() if line.startswith("data: ")]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def test_the_openai_sdk_chats_steered_and_reads_what_was_applied(sdk):
    answer = sdk.chat.completions.create(
        model="mini",
        messages=[{"role": "system", "content": "be kind"}, {"role": "user", "content": "is it true"}],
        max_completion_tokens=6,
        temperature=0,
        extra_body={"steering": {"strengths": {"reliability": 1.5, "toxicity": -0.5}}},
    )
    assert answer.choices[0].message.role == "assistant"
    assert answer.usage.completion_tokens == 6
    applied = answer.model_extra["steering"]["applied"]
    assert [(vector["dimension"], vector["strength"]) for vector in applied] == [
        ("reliability", 1.5),
        ("toxicity", -0.5),
    ]
    assert answer.model_extra["steering"]["tokens_steered"] == {"prompt": 1, "generation": 6}


def test_a_stream_adds_up_to_the_answer(sdk, client):
    asked = {"prompt": PROMPT, "max_tokens": 12, "temperature": 0, "seed": 3}
    steering = {"steering": {"strengths": {"privacy": 2.0}}}
    whole = sdk.completions.create(model="mini", **asked, extra_body=steering)
    chunks = list(sdk.completions.create(model="mini", **asked, stream=True, extra_body=steering))
    assert "".join(chunk.choices[0].text for chunk in chunks) == whole.choices[0].text
    assert chunks[-1].choices[0].finish_reason == whole.choices[0].finish_reason == "length"
    assert chunks[-1].model_extra["steering"] == whole.model_extra["steering"]
    with_usage = streamed(client, prompt=PROMPT, stream_options={"include_usage": True})
    assert with_usage[-1]["choices"] == []
    assert with_usage[-1]["usage"]["completion_tokens"] == 8


def test_a_chat_stream_has_role_and_reason(client):
    chunks = streamed(client, "/v1/chat/completions", messages=[{"role": "user", "content": "you"}])
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None] * (len(chunks) - 1) + ["length"]


def test_requests_at_the_same_time_get_what_they_get_alone(client, service_url):
    settings = [{}, {"toxicity": 1.0}, {"toxicity": -2.0, "fairness": 1.0}, {"privacy": 0.7}, {"robustness": 3.0}]
    requests = [
        {"prompt": f"{PROMPT} {index}", "steering": {"strengths": strengths}}
        for index, strengths in enumerate(settings * 2)
    ]
    alone = [complete(client, max_tokens=20, **request)["choices"] for request in requests]
    together: dict[int, list] = {}

    def ask(place: int) -> None:
        with httpx.Client(base_url=service_url, timeout=60) as own:
            together[place] = complete(own, max_tokens=20, **requests[place])["choices"]

    threads = [threading.Thread(target=ask, args=(place,)) for place in range(len(requests))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [together[place] for place in range(len(requests))] == alone
    assert len({json.dumps(choices) for choices in alone}) > len(settings)


def test_choices_of_a_seed_differ_and_can_be_had_again(client):
    first, again = (complete(client, n=3, seed=5, temperature=1.5, max_tokens=12) for _ in range(2))
    texts = [choice["text"] for choice in first["choices"]]
    assert texts == [choice["text"] for choice in again["choices"]]
    assert len(set(texts)) == 3
    assert [choice["index"] for choice in first["choices"]] == [0, 1, 2]


def test_several_prompts_and_prompts_of_tokens(client):
    texts = complete(client, prompt=["The city", "you are"])["choices"]
    assert [choice["text"] for choice in texts] == [
        complete(client, prompt=prompt)["choices"][0]["text"] for prompt in ("The city", "you are")
    ]
    assert complete(client, prompt=[40, 41, 42])["usage"]["prompt_tokens"] == 3


def test_a_stop_text_ends_the_answer_before_it(client):
    text = complete(client, max_tokens=30)["choices"][0]["text"]
    stop = text[5:7]
    found = complete(client, max_tokens=30, stop=[stop])["choices"][0]
    assert found["text"] == text[: text.index(stop)]
    assert found["finish_reason"] == "stop"


def test_log_probabilities_are_those_of_a_distribution(sdk):
    text = sdk.completions.create(model="mini", prompt=PROMPT, max_tokens=3, temperature=0, logprobs=5)
    told = text.choices[0].logprobs
    assert len(told.tokens) == len(told.token_logprobs) == 3
    for own, top in zip(told.token_logprobs, told.top_logprobs, strict=True):
        assert own == pytest.approx(max(top.values())) and sum(np.exp(list(top.values()))) <= 1 + 1e-6
    chat = sdk.chat.completions.create(
        model="mini", messages=[{"role": "user", "content": "you"}], max_tokens=2, logprobs=True, top_logprobs=2
    )
    assert all(len(token.top_logprobs) == 2 for token in chat.choices[0].logprobs.content)


def by_reference(reference):
    return {"steering": {"vectors": [{"ref": reference, "strength": 1}]}}


BAD = [
    ({"prompt": ""}, 400, "invalid_request", "prompt"),
    ({"prompt": []}, 400, "invalid_request", "prompt"),
    ({"prompt": 7}, 400, "invalid_request", "prompt"),
    ({"prompt": [999_999]}, 400, "invalid_request", "prompt"),
    ({"prompt": "the city " * 400}, 400, "context_length_exceeded", "prompt"),
    ({"model": "gpt-4"}, 404, "model_not_found", "model"),
    ({"max_tokens": 0}, 400, "invalid_request", "max_tokens"),
    ({"max_tokens": "5"}, 400, "invalid_request", "max_tokens"),
    ({"temperature": 3}, 400, "invalid_request", "temperature"),
    ({"n": 100}, 400, "invalid_request", "n"),
    ({"tools": [{}]}, 400, "invalid_request", "tools"),
    ({"logit_bias": {"5": 1}}, 400, "invalid_request", "logit_bias"),
    ({"stop": ["a"] * 65}, 400, "invalid_request", "stop"),
    ({"steering": 5}, 400, "invalid_steering", "steering"),
    ({"steering": {"strength": {}}}, 400, "invalid_steering", "steering.strength"),
    ({"steering": {"strengths": {"toxicty": 1}}}, 400, "invalid_steering", "steering.strengths.toxicty"),
    ({"steering": {"strengths": {"toxicity": "1"}}}, 400, "invalid_steering", "steering.strengths.toxicity"),
    ({"steering": {"strengths": {"toxicity": None}}}, 400, "invalid_steering", "steering.strengths.toxicity"),
    ({"steering": {"strengths": {"toxicity": 1e6}}}, 422, "dose_exceeded", "steering.strengths.toxicity"),
    (by_reference("steer.mini.toxicity/99"), 404, "vector_not_found", "steering.vectors.0.ref"),
    (by_reference("../../etc/passwd"), 404, "vector_not_found", "steering.vectors.0.ref"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "status", "code", "param"), BAD)
def test_what_cannot_be_answered_is_refused_in_openais_envelope(client, body, status, code, param):
    reply = client.post("/v1/completions", json={"prompt": PROMPT, "max_tokens": 2, **body})
    assert reply.status_code == status, reply.text
    (error,) = reply.json().values()
    assert (error["code"], error["param"]) == (code, param)
    assert error["message"] and "Traceback" not in error["message"] and "/serving/" not in error["message"]
    assert reply.headers["x-request-id"]


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_strengths_that_are_no_numbers_are_refused(client, number):
    body = f'{{"prompt": "x", "steering": {{"strengths": {{"toxicity": {number}}}}}}}'
    reply = client.post("/v1/completions", content=body, headers={"content-type": "application/json"})
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "steering.strengths.toxicity")


@pytest.mark.parametrize("content", [b"", b"{", b"[1, 2]", b"\xff\xfe", b"[" * 100_000, b"null"])
def test_bodies_that_are_no_objects_are_refused(client, content):
    reply = client.post("/v1/completions", content=content, headers={"content-type": "application/json"})
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "invalid_request")


@pytest.mark.parametrize(
    ("content", "headers", "told"),
    [
        (b'{"prompt": "x"}', {"content-type": "text/plain"}, "sent with the header Content-Type: application/json"),
        (b"prompt=x", {"content-type": "application/x-www-form-urlencoded"}, "Content-Type: application/json"),
        (b"\x1f\x8b\x08\x00", {"content-encoding": "gzip"}, "not compressed"),
        (b'{"prompt": "x", "max_tokens": ' + b"9" * 5000 + b"}", {}, "shorter numbers"),
    ],
    ids=["text", "form", "gzip", "digits"],
)
def test_a_body_that_cannot_be_read_says_what_to_send(client, content, headers, told):
    reply = client.post("/v1/completions", content=content, headers={"content-type": "application/json", **headers})
    assert reply.status_code == 400
    assert told in reply.json()["error"]["message"]


def test_a_huge_body_and_unknown_paths(client):
    huge = client.post("/v1/completions", json={"prompt": "x" * 2_000_000})
    assert (huge.status_code, huge.json()["error"]["code"]) == (413, "request_too_large")
    chunked = client.post("/v1/completions", content=(b" " * 100_000 for _ in range(20)))
    assert chunked.status_code == 413
    assert client.get("/nowhere").json()["error"]["code"] == "not_found"
    wrong = client.get("/v1/completions")
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (405, "bad_method")
    for path, methods in (
        ("/health", "GET, HEAD"),
        ("/docs.json", "GET, HEAD"),
        ("/playground/style.css", "GET, HEAD"),
        ("/v1/steering/vectors", "DELETE, GET, HEAD, POST"),
    ):
        refused = client.patch(path)
        assert (refused.status_code, refused.headers["allow"]) == (405, methods)
        assert refused.json()["error"]["message"] == f"{path} does not take PATCH; it takes {methods}"


def test_whatever_can_be_got_answers_head(client):
    vector = "/v1/steering/vectors/steer.mini.toxicity/versions/1"
    steering = ("/v1/steering/dimensions", "/v1/steering/vectors", "/v1/steering/default", vector, f"{vector}/export")
    for path in ("/docs", "/docs.json", "/v1/models", "/v1/models/mini", *steering):
        got, head = client.get(path), client.head(path)
        assert (head.status_code, head.content) == (got.status_code, b"") == (200, b"")
        assert head.headers["content-length"] == got.headers["content-length"] == str(len(got.content))
    for path, status in (("/v1/completions", 405), ("/v1/models/nobody", 404)):
        assert (client.head(path).status_code, client.head(path).content) == (status, b"")


def test_too_strong_can_be_clamped_or_applied_with_a_warning(client):
    for on_exceed in ("clamp", "warn"):
        steering = {"strengths": {"toxicity": 400.0}, "on_exceed": on_exceed}
        (applied,) = complete(client, steering=steering)["steering"]["applied"]
        assert (applied["strength"] < 400) == (on_exceed == "clamp")
        assert complete(client, steering=steering)["steering"]["warnings"]
    assert applied["relative_dose"] > 1


def test_strength_0_is_unsteered_to_the_bit(client):
    plain = complete(client, logprobs=5)
    zero = complete(client, logprobs=5, steering={"strengths": {"toxicity": 0.0, "privacy": -0.0}})
    assert zero["choices"] == plain["choices"]
    assert zero["steering"]["applied"] == [] and zero["steering"]["fingerprint"] == ""


def test_vectors_by_reference_and_where_they_apply(client):
    reference = {
        "ref": "models:/steer.mini.privacy/1",
        "strength": 0.8,
        "apply": {"prompt": "all", "generation": "none"},
    }
    found = complete(client, steering={"vectors": [reference]})["steering"]
    assert found["tokens_steered"] == {"prompt": len(PROMPT), "generation": 0}
    by_alias = complete(client, steering={"vectors": [{**reference, "ref": "steer.mini.privacy@champion"}]})["steering"]
    assert by_alias == found
    wrong_layer = client.post(
        "/v1/completions", json={"prompt": "x", "steering": {"vectors": [{**reference, "layers": [0]}]}}
    )
    assert wrong_layer.json()["error"]["param"] == "steering.vectors.0.layers"


def test_one_prompt_under_several_settings_in_one_batch(client):
    settings = [{"steering": "off"}, {"steering": {"strengths": {"toxicity": 2.0}}}, {"steering": {}}]
    body = {"prompt": PROMPT, "max_tokens": 10, "temperature": 0, "settings": settings}
    data = client.post("/v1/steering/compare", json=body).json()["data"]
    assert data[0]["text"] == data[2]["text"] == complete(client, max_tokens=10)["choices"][0]["text"]
    steered = complete(client, max_tokens=10, steering=settings[1]["steering"])
    assert data[1]["text"] == steered["choices"][0]["text"]
    assert data[1]["steering"] == steered["steering"]
    bad = client.post("/v1/steering/compare", json={**body, "settings": [{"steering": {"strengths": {"x": 1}}}]})
    assert bad.json()["error"]["param"] == "settings.0.steering.strengths.x"


def test_a_dry_run_says_what_would_apply(client):
    good = client.post("/v1/steering/validate", json={"steering": {"strengths": {"fairness": 1.0}}}).json()
    assert good["valid"] and good["applied"][0]["dimension"] == "fairness" and good["error"] is None
    bad = client.post("/v1/steering/validate", json={"steering": {"strengths": {"fairness": 1e6}}})
    assert bad.status_code == 200
    assert (bad.json()["valid"], bad.json()["error"]["code"]) == (False, "dose_exceeded")


def test_probes_score_the_last_token_and_every_token(client):
    body = {"input": ["you are kind", "you are crüel"], "per_token": True}
    reply = client.post("/v1/probe", json=body).json()
    assert set(reply["probes"]) == {"reliability", "privacy", "toxicity", "fairness", "robustness"}
    for text, found in zip(body["input"], reply["data"], strict=True):
        assert "".join(token["text"] for token in found["tokens"]) == text
        assert found["tokens"][-1]["scores"] == found["scores"]
        assert all(0 <= score <= 1 for score in found["scores"].values())
    one = client.post("/v1/probe", json={"input": "you are kind", "dimensions": ["toxicity"]}).json()["data"][0]
    assert one["scores"] == {"toxicity": reply["data"][0]["scores"]["toxicity"]}
    assert client.post("/v1/probe", json={"input": "x", "dimensions": ["humility"]}).status_code == 400
    assert client.post("/v1/probe", json={"input": []}).status_code == 400


@pytest.mark.parametrize(
    ("steering", "message"),
    [
        ("on", "`steering`: it should be a JSON object, not 'on'"),
        ({"strengths": ["toxicity"]}, "`steering.strengths`: it should be a JSON object"),
        ({"monitor": "toxicity"}, "`steering.monitor`: it should be a list, not 'toxicity'"),
    ],
)
def test_refusals_speak_of_json(client, steering, message):
    refused = client.post("/v1/completions", json={"prompt": "the", "steering": steering})
    assert refused.status_code == 400
    assert refused.json()["error"]["message"] == message


def test_lengths_are_refused_in_the_words_of_json(client):
    compare = "/v1/steering/compare"
    for path, body, told in (
        (compare, {"prompt": "a", "settings": [{}] * 9}, "`settings`: it should have at most 8 items, not 9"),
        (compare, {"prompt": "a", "settings": []}, "`settings`: it should have at least 1 item, not 0"),
        ("/v1/probe", {"input": "a", "model": "m" * 301}, "`model`: it should have at most 300 characters"),
    ):
        assert client.post(path, json=body).json()["error"]["message"] == told


def test_the_scores_of_too_many_tokens_are_refused(client):
    texts = ["a" * 500] * 33
    refused = client.post("/v1/probe", json={"input": texts, "per_token": True}).json()["error"]
    assert refused["param"] == "per_token" and "have 16500 tokens, and `per_token` scores at most 16384" in str(refused)
    scored = client.post("/v1/probe", json={"input": texts, "dimensions": ["privacy"]}).json()
    assert len({score["scores"]["privacy"] for score in scored["data"]}) == 1


def test_vectors_are_listed_with_their_lineage_and_exported(client):
    listed = client.get("/v1/steering/vectors", params={"dimension": "toxicity"}).json()["data"]
    (one,) = listed
    assert one["live"] and one["checkpoint"] == "models:/ckpt.mini/1" and one["aliases"] == ["champion"]
    path = f"/v1/steering/vectors/{one['name']}/versions/{one['version']}"
    assert client.get(path).json() == one
    own = vector_from_bytes(client.get(f"{path}/export").content)
    assert own.lineage.run_id == one["run_id"]
    gguf = client.get(f"{path}/export", params={"format": "gguf", "strength": 2.0})
    assert "filename*=UTF-8''steer.mini.toxicity-1.gguf" in gguf.headers["content-disposition"]
    refused = client.get(f"{path}/export", params={"format": "ggml"})
    assert refused.status_code == 400
    assert refused.json()["error"]["message"] == "`format`: it should be 'safetensors' or 'gguf', not 'ggml'"
    assert client.get("/v1/steering/vectors/steer.mini.toxicity/versions/9").status_code == 404
    assert client.get("/v1/steering/vectors/other/versions/1").status_code == 400


@pytest.mark.parametrize(
    ("query", "param", "told"),
    [
        ("format=safetensors&strength=2", "strength", "`strength` is 2, which a file of safetensors cannot hold"),
        ("strength=0.5", "strength", "which a file of safetensors cannot hold: leave it out, or send `format` gguf"),
        ("format=gguf&strengths=2", "strengths", "there is no parameter `strengths`; did you mean `strength`?"),
        ("format=gguf&format=safetensors", "format", "the parameter `format` stands twice"),
        ("x=1", "x", "there is no parameter `x`; known: format, strength"),
    ],
)
def test_no_parameter_of_an_export_goes_unheard(client, query, param, told):
    path = "/v1/steering/vectors/steer.mini.toxicity/versions/1/export"
    refused = client.get(f"{path}?{query}")
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)
    assert told in refused.json()["error"]["message"]
    assert client.get(f"{path}?strength=1").status_code == 200
    listed = client.get("/v1/steering/vectors?dimensions=toxicity").json()["error"]
    assert "did you mean `dimension`?" in listed["message"]


def test_a_setting_of_a_header_or_an_alias_is_validated(client):
    named = client.post("/v1/steering/validate", json={"model": "mini@toxicity=0.5"}).json()
    sent = client.post("/v1/steering/validate", json={}, headers={"x-steering": "toxicity=0.5"}).json()
    assert named["fingerprint"] == sent["fingerprint"] != "" and sent["applied"][0]["strength"] == 0.5
    wrong = client.post("/v1/steering/validate", json={}, headers={"x-steering": "kindness=1"}).json()
    assert not wrong["valid"] and wrong["error"]["param"] == "x-steering.strengths.kindness"


@pytest.mark.parametrize(("path", "body"), [("/v1/probe", {}), ("/v1/hidden_states", {"layer": 1})])
def test_a_header_that_steers_nothing_there_is_refused(client, path, body):
    refused = client.post(path, json={"input": "a", **body}, headers={"x-steering": "toxicity=0.5"})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "x-steering")
    assert "leave it out" in refused.json()["error"]["message"]
    assert client.post(path, json={"input": "a", **body}).status_code == 200


def test_an_exported_control_vector_is_read_by_the_gguf_package(client, tmp_path):
    content = client.get("/v1/steering/vectors/steer.mini.privacy/versions/1/export", params={"format": "gguf"}).content
    (tmp_path / "vector.gguf").write_bytes(content)
    (tensor,) = GGUFReader(tmp_path / "vector.gguf").tensors
    own = vector_from_bytes(client.get("/v1/steering/vectors/steer.mini.privacy/versions/1/export").content)
    np.testing.assert_array_equal(tensor.data, own.offset(1.0))


def test_models_and_dimensions_tell_what_can_be_steered(client, sdk):
    one, *aliases = sdk.models.list().data
    assert len(aliases) == 5
    told = client.get("/v1/models/mini").json()
    assert one.id == told["id"] == "mini" and told["chat"] is True
    assert [each["dimension"] for each in told["steering"]["dimensions"]] == sorted(
        ["reliability", "privacy", "toxicity", "fairness", "robustness"]
    )
    assert client.get("/v1/models/gpt-4").json()["error"]["code"] == "model_not_found"
    dimensions = client.get("/v1/steering/dimensions").json()["data"]
    for each in dimensions:
        assert each["hard"][0] < each["recommended"][0] < 0 < each["recommended"][1] < each["hard"][1]
        assert each["vector"]["version"] == "1"


def test_a_client_that_goes_away_frees_its_slot(client, service_url):
    body = {"prompt": PROMPT, "max_tokens": 400, "temperature": 0, "ignore_eos": True}

    def gauge(name: str) -> float:
        lines = client.get("/metrics").text.splitlines()
        return float(
            next(line.split()[-1] for line in lines if line.startswith(f"{name} ") or line.startswith(f"{name}{{"))
        )

    with (
        httpx.Client(base_url=service_url) as gone,
        gone.stream("POST", "/v1/completions", json={**body, "stream": True}) as reply,
    ):
        next(reply.iter_lines())
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{service_url}/v1/completions", json=body, timeout=0.05)
    deadline = time.monotonic() + 10
    while gauge("trusttrace_active") > 0:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    generated = gauge("trusttrace_generated_tokens_total")
    complete(client)
    assert gauge("trusttrace_generated_tokens_total") == generated + 8


def print_what_bentomls_client_gets(service_url):
    warnings.simplefilter("ignore")  # it warns of its age
    with bentoml.SyncHTTPClient(service_url) as client:
        answer = client.generate(prompt="you", strengths={"toxicity": 1.0}, max_tokens=4, temperature=0.0)
    print(json.dumps(answer))


def test_bentomls_own_client_generates(service_url):
    asked = run_forked(lambda: print_what_bentomls_client_gets(service_url))  # it leaves a directory behind
    assert asked.returncode == 0, asked.output
    found = json.loads(asked.output.splitlines()[-1])
    assert found["usage"]["completion_tokens"] == 4
    assert found["steering"]["applied"][0]["dimension"] == "toxicity"
    refused = httpx.post(f"{service_url}/generate", json={"prompt": PROMPT, "strengths": {"toxicty": 1.0}})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "strengths.toxicty")
    invalid = httpx.post(f"{service_url}/generate", json={"prompt": 7})
    assert (invalid.status_code, invalid.json()["error"]["code"]) == (400, "invalid_request")


def test_what_was_read_before_is_counted_as_cached(client):
    text = "a text that is asked about again and again, under one setting after the other"
    bodies = [complete(client, prompt=text, steering={"strengths": {"toxicity": strength}}) for strength in (0.0, 1.0)]
    asked, cached = (bodies[1]["usage"][name] for name in ("prompt_tokens", "prompt_tokens_details"))
    assert 0 < cached["cached_tokens"] < asked and cached["cached_tokens"] % 16 == 0
    slots = client.get("/readyz").json()["slots"]
    assert 0 <= slots["held"] <= slots["full"]  # given back once nothing runs
    memory = client.get("/readyz").json()["prefix_cache"]
    assert 0 < memory["held"] < memory["limit"] == 268_435_456
    weights = client.get("/readyz").json()["weights"]
    assert weights["loaded"] > weights["four_bit"] == 0  # those of a random network lie on no grid
    deadline = time.monotonic() + 5
    metric = re.compile(r"^trusttrace_cached_prompt_tokens_total (\S+)", re.M)
    while not (counted := metric.search(client.get("/metrics").text)):
        assert time.monotonic() < deadline
    assert float(counted[1]) >= cached["cached_tokens"]


def test_health_metrics_and_the_page(client):
    assert client.get("/livez").json() == {"status": "alive"}
    ready = client.get("/readyz").json()
    assert ready["status"] == "ready" and ready["registry"]["answers"]
    complete(client, steering={"strengths": {"toxicity": 1.0}})
    metrics = client.get("/metrics").text
    for name in (
        "requests_total",
        "first_token_seconds",
        "mean_batch",
        "queued",
        'steered_requests_total{dimension="toxicity"}',
    ):
        assert f"trusttrace_{name}" in metrics
    page = client.get("/")
    assert "TrustTrace playground" in page.text and "frame-ancestors 'none'" in page.headers["content-security-policy"]
    assert client.get("/playground/playground.js").status_code == 200
    assert client.get("/playground/../service.py").status_code == 404


def test_logs_are_json_without_request_texts(client, service):
    secret = "a-prompt-that-nobody-may-read"
    reply = client.post(
        "/v1/completions",
        json={"prompt": secret, "max_tokens": 2, "ignore_eos": True},
        headers={"x-request-id": "mine-1"},
    )
    assert reply.headers["x-request-id"] == "mine-1"
    deadline = time.monotonic() + 5
    while "mine-1" not in (log := service.log.read_text()):
        assert time.monotonic() < deadline, log[-2000:]
        time.sleep(0.1)
    line = next(line for line in log.splitlines() if "mine-1" in line)
    told = json.loads(line[line.index("{") :])
    assert (told["status"], told["generated_tokens"], told["path"]) == (200, 2, "/v1/completions")
    assert secret not in log


def test_a_busy_machine_keeps_open_connections(service):
    """By default uvicorn closes a connection after 5 idle seconds, and resets one on which a request has just come."""
    processes = psutil.Process(service.process.pid).children(recursive=True)
    with httpx.Client(base_url=service.url, timeout=30) as client:
        assert client.get("/livez").status_code == 200
        for process in processes:
            process.suspend()
        threading.Timer(6, lambda: [process.resume() for process in processes]).start()
        began = time.monotonic()
        assert client.get("/livez").status_code == 200
        assert time.monotonic() - began > 5
