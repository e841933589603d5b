"""Monitored answers over HTTP: readings beside the text, whole and streamed, and answers that they end."""

import httpx
import openai
import pytest

PROMPT = "The city of Lyon"
BODY = {"prompt": PROMPT, "max_tokens": 10, "temperature": 0}
MONITOR = ["toxicity", "privacy"]


def completion(client, **body):
    reply = client.post("/v1/completions", json={**BODY, **body})
    assert reply.status_code == 200, reply.text
    return reply.json()


@pytest.fixture
def sdk(service_url):
    return openai.OpenAI(base_url=f"{service_url}/v1", api_key="none", max_retries=0)


def test_readings_agree_with_the_probe_route(client):
    answer = completion(client, steering={"monitor": MONITOR}, logprobs=0)
    (choice,) = answer["choices"]
    assert [reading["text"] for reading in choice["readings"]] == choice["logprobs"]["tokens"]
    scored = client.post("/v1/probe", json={"input": PROMPT + choice["text"], "dimensions": MONITOR, "per_token": True})
    tokens = scored.json()["data"][0]["tokens"]
    assert len(tokens) == len(PROMPT) + 10  # one byte a token
    for place, reading in enumerate(choice["readings"]):
        assert reading["scores"] == pytest.approx(tokens[len(PROMPT) - 1 + place]["scores"], abs=2e-5)
    plain = completion(client)
    assert plain["choices"][0]["text"] == choice["text"] and "readings" not in plain["choices"][0]


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions", "/v1/responses", "/v1/steering/compare"])
def test_readings_join_to_the_text(client, path):
    """At this temperature parts of characters are drawn, and what is no character at all."""
    steering = {"monitor": ["toxicity"]}
    given = {"/v1/completions": {"prompt": PROMPT}, "/v1/responses": {"input": PROMPT}}
    length = "max_output_tokens" if path == "/v1/responses" else "max_tokens"
    body = given.get(path, {"messages": [{"role": "user", "content": PROMPT}]})
    setting = {"settings": [{"steering": steering}]} if path == "/v1/steering/compare" else {"steering": steering}
    texts = []
    for seed in range(4):
        sampled = {**body, **setting, length: 40, "temperature": 2, "seed": seed}
        answer = client.post(path, json=sampled).json()
        (choice,) = answer.get("choices") or answer.get("output") or answer["data"]
        message = choice.get("message") or choice
        texts.append(message["text"] if "text" in message else _content(message))
        assert "".join(reading["text"] for reading in choice["readings"]) == texts[-1]
    assert "\ufffd" in "".join(texts)


def _content(message):
    return message["content"] if isinstance(message["content"], str) else message["content"][0]["text"]


@pytest.mark.parametrize("is_chat", [False, True])
def test_the_probe_route_reads_an_answer_as_it_was_monitored(client, is_chat):
    before = {"messages": [{"role": "user", "content": PROMPT}]} if is_chat else {"prompt": PROMPT}
    body = {**before, "max_tokens": 10, "temperature": 0, "steering": {"monitor": MONITOR}}
    path = "/v1/chat/completions" if is_chat else "/v1/completions"
    choice = client.post(path, json=body).json()["choices"][0]
    text = choice["message"]["content"] if is_chat else choice["text"]
    body = {**before, "input": [text, text[:4]], "dimensions": MONITOR, "per_token": True}
    scored, beginning = client.post("/v1/probe", json=body).json()["data"]
    assert "".join(token["text"] for token in scored["tokens"]) == text and scored["n_tokens"] == 10
    for token, reading in zip(scored["tokens"], choice["readings"][1:], strict=False):
        assert token["scores"] == pytest.approx(reading["scores"], abs=2e-5)
    assert scored["tokens"][-1]["scores"] == scored["scores"]
    assert beginning["scores"] == pytest.approx(scored["tokens"][3]["scores"], abs=2e-5)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"prompt": PROMPT}, "prompt"),
        ({"prompt": PROMPT, "input": "a", "messages": [{"role": "user", "content": "b"}]}, "prompt"),
        ({"prompt": "", "input": "a"}, "prompt"),
        ({"prompt": PROMPT, "input": ["a", ""]}, "input.1"),
        ({}, "input"),
    ],
)
def test_what_an_answer_follows_is_told_once(client, body, param):
    reply = client.post("/v1/probe", json=body)
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, param)


def test_a_stream_carries_them_with_the_token(sdk, client):
    whole = completion(client, steering={"monitor": ["toxicity"]})
    steering = {"steering": {"monitor": ["toxicity"]}}
    chunks = list(sdk.completions.create(model="mini", **BODY, stream=True, extra_body=steering))
    streamed = [reading for chunk in chunks for reading in chunk.choices[0].model_extra.get("readings", [])]
    assert streamed == whole["choices"][0]["readings"] and len(streamed) == 10
    assert chunks[-1].model_extra["steering"] == whole["steering"]
    (monitored,) = whole["steering"]["monitored"]
    scores = [reading["scores"]["toxicity"] for reading in streamed]
    assert monitored["mean"] == pytest.approx(sum(scores) / 10, abs=1e-5)
    assert (monitored["tokens"], monitored["lowest"]) == (10, min(scores))
    assert (monitored["vector"], monitored["version"]) == ("steer.mini.toxicity", "1")


def test_an_answer_is_ended_by_its_readings_and_counted(client):
    whole = completion(client, steering={"monitor": ["toxicity"]})["choices"][0]
    scores = [reading["scores"]["toxicity"] for reading in whole["readings"]]
    threshold = min(scores) + 1e-4
    expected = next(place for place, score in enumerate(scores) if score < threshold)
    steering = {"monitor": ["toxicity"], "stop_when": {"probe_below": threshold}}
    before = _counted(client)
    ended = completion(client, steering=steering)
    (choice,) = ended["choices"]
    assert (choice["finish_reason"], len(choice["readings"])) == ("content_filter", expected + 1)
    assert whole["text"].startswith(choice["text"])
    assert ended["steering"]["stop_when"] == {"probe_below": threshold, "for": 1}
    patient = {**steering, "stop_when": {"probe_below": threshold, "for": 11}}
    assert completion(client, steering=patient)["choices"][0]["finish_reason"] == "length"
    chat = {"messages": [{"role": "user", "content": "you"}], "max_tokens": 5, "n": 2, "seed": 1}
    told = client.post("/v1/chat/completions", json={**chat, "steering": {"monitor": ["toxicity"]}}).json()
    assert [len(choice["readings"]) for choice in told["choices"]] == [5, 5]
    after = _counted(client)
    assert after["filtered"] - before["filtered"] == 1
    assert after["readings"] - before["readings"] == expected + 1 + 10 + 10


def _counted(client):
    lines = dict(line.rsplit(" ", 1) for line in client.get("/metrics").text.splitlines() if line[:1] != "#")
    return {
        "filtered": float(lines.get("trusttrace_filtered_answers_total", 0)),
        "readings": float(lines.get('trusttrace_probe_reading_count{dimension="toxicity",variant="none"}', 0)),
    }


def test_settings_are_compared_with_their_readings(client):
    settings = [{"steering": {"monitor": ["toxicity"]}}, {"steering": {"strengths": {"toxicity": 2.0}}}]
    body = {"prompt": PROMPT, "max_tokens": 4, "temperature": 0, "settings": settings}
    first, second = client.post("/v1/steering/compare", json=body).json()["data"]
    assert len(first["readings"]) == 4 and "readings" not in second
    dry = client.post("/v1/steering/validate", json=settings[0]).json()
    assert dry["monitored"][0]["dimension"] == "toxicity" and dry["monitored"][0]["mean"] is None


@pytest.mark.parametrize(
    ("steering", "param"),
    [
        ({"monitor": ["kindness"]}, "steering.monitor"),
        ({"stop_when": {"probe_below": 0.5}}, "steering.monitor"),
        ({"monitor": ["toxicity"], "stop_when": {"probe_below": 0}}, "steering.stop_when.probe_below"),
        ({"monitor": ["toxicity"], "stop_when": {"probe_below": 0.5, "for": 0}}, "steering.stop_when.for"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name(service_url, steering, param):
    reply = httpx.post(f"{service_url}/v1/completions", json={**BODY, "steering": steering})
    error = reply.json()["error"]
    assert (reply.status_code, error["code"], error["param"]) == (400, "invalid_steering", param)
