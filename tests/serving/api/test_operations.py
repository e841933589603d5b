"""Projection and conditions over real HTTP: their effect, their account of it, and refusals by name."""

import json

import pytest

from tests.serving.api.test_http import PROMPT, complete, streamed

ALL = {"prompt": "all", "generation": "none"}


def reference(dimension="privacy", **said):
    return {"ref": f"steer.mini.{dimension}/1", **said}


def test_a_condition_steers_tokens_below_the_threshold(client):
    scored = client.post("/v1/probe", json={"input": PROMPT, "dimensions": ["privacy"], "per_token": True}).json()
    scores = [token["scores"]["privacy"] for token in scored["data"][0]["tokens"]]
    for threshold in (0.3, 0.5, 0.7, 1.0):
        given = reference(strength=2.0, apply=ALL, when={"probe_below": threshold})
        found = complete(client, steering={"vectors": [given]})["steering"]
        (applied,) = found["applied"]
        expected = {"prompt": sum(score < threshold for score in scores), "generation": 0}
        assert applied["tokens_steered"] == found["tokens_steered"] == expected
        assert applied["when"] == {"probe_below": threshold, "probe_layer": applied["layers"][0]}
    assert 0 < sum(score < 0.5 for score in scores) < len(scores)


def test_a_constant_condition_is_plain_or_no_steering(client):
    strong = {"strengths": {"privacy": 30.0}, "on_exceed": "warn"}
    plain, added = complete(client), complete(client, steering=strong)
    always = complete(client, steering={**strong, "when": {"probe_below": 1.0}})
    never = complete(client, steering={**strong, "when": {"probe_below": 1e-30}})
    assert always["choices"] == added["choices"] != plain["choices"] == never["choices"]
    assert never["steering"]["tokens_steered"] == {"prompt": 0, "generation": 0}
    assert always["steering"]["applied"][0]["tokens_steered"] == {"prompt": 1, "generation": 7}
    prints = {answer["steering"]["fingerprint"] for answer in (plain, added, always, never)}
    assert len(prints) == 4


def test_a_projection_tells_target_bound_and_range(client):
    found = complete(client, steering={"targets": {"privacy": 1.5}, "bound": "at_least"})["steering"]
    (applied,) = found["applied"]
    dimensions = client.get("/v1/steering/dimensions").json()["data"]
    (hard,) = (info["hard"] for info in dimensions if info["dimension"] == "privacy")
    assert (applied["op"], applied["target"], applied["bound"]) == ("project", 1.5, "at_least")
    assert applied["limit"] == pytest.approx([0.0, hard[1]], rel=1e-5) and applied["relative_dose"] <= 1.0
    assert "strength" not in applied and "when" not in applied
    plain = complete(client)["choices"]
    holds = complete(client, steering={"targets": {"privacy": -hard[1]}, "bound": "at_least"})
    assert (holds["choices"], holds["steering"]["tokens_steered"]) == (plain, {"prompt": 0, "generation": 0})
    exactly = complete(client, steering={"vectors": [reference(op="project", target=hard[1])]})
    assert exactly["choices"] != plain
    assert exactly["steering"]["tokens_steered"] == {"prompt": 1, "generation": 7}


def test_projections_at_one_layer_share_the_limit(client):
    both = complete(client, steering={"targets": {"privacy": 1.0, "fairness": 1.0}})["steering"]
    alone = complete(client, steering={"targets": {"privacy": 1.0}})["steering"]
    assert [vector["layers"] for vector in both["applied"]] == [[2], [2]]
    assert sum(vector["relative_dose"] for vector in both["applied"]) == pytest.approx(1.0, abs=1e-5)
    assert alone["applied"][0]["relative_dose"] == pytest.approx(1.0, abs=1e-5)
    assert "projections are limited to 50%" in both["warnings"][-1]
    asked = {"targets": {"privacy": 1e5}}
    refused = client.post("/v1/completions", json={"prompt": PROMPT, "steering": asked})
    assert (refused.status_code, refused.json()["error"]["param"]) == (422, "steering.targets.privacy")
    clamped = complete(client, steering={**asked, "on_exceed": "clamp"})["steering"]
    assert clamped["applied"][0]["target"] < 1e5 == clamped["applied"][0]["requested"]
    warned = complete(client, max_tokens=1, steering={**asked, "on_exceed": "warn"})["steering"]
    assert warned["applied"][0]["target"] == warned["applied"][0]["limit"][1] == 1e5


def test_every_route_that_generates_takes_them_and_tells_the_same(client):
    steering = {"targets": {"toxicity": 2.0}, "strengths": {"privacy": 1.0}, "when": {"probe_below": 0.6}}
    whole = complete(client, steering=steering)
    chunks = streamed(client, prompt=PROMPT, steering=steering)
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == whole["choices"][0]["text"]
    assert chunks[-1]["steering"] == whole["steering"]
    body = {
        "prompt": PROMPT,
        "max_tokens": 8,
        "temperature": 0,
        "settings": [{"steering": "off"}, {"steering": steering}],
    }
    compared = client.post("/v1/steering/compare", json=body).json()["data"]
    assert (compared[1]["text"], compared[1]["steering"]) == (whole["choices"][0]["text"], whole["steering"])
    assert compared[0]["text"] == complete(client)["choices"][0]["text"]
    chat = {"messages": [{"role": "user", "content": "you"}], "max_tokens": 4, "temperature": 0, "steering": steering}
    told = client.post("/v1/chat/completions", json=chat).json()["steering"]["applied"]
    assert [(vector["op"], vector["when"]["probe_below"]) for vector in told] == [("add", 0.6), ("project", 0.6)]
    twice = complete(client, n=2, steering=steering)["steering"]
    for double, single in zip(twice["applied"], whole["steering"]["applied"], strict=True):
        assert double["tokens_steered"] == {name: 2 * count for name, count in single["tokens_steered"].items()}
    dry = client.post("/v1/steering/validate", json={"steering": steering}).json()
    assert dry["fingerprint"] == whole["steering"]["fingerprint"]
    assert [vector["op"] for vector in dry["applied"]] == ["add", "project"]
    assert client.get("/v1/models/mini").json()["steering"]["operations"] == ["add", "monitor", "project", "when"]


BAD = [
    ({"strengths": {"privacy": 1.0}, "targets": {"privacy": 1.0}}, "targets.privacy"),
    ({"targets": {"privcy": 1.0}}, "targets.privcy"),
    ({"targets": {"privacy": "1"}}, "targets.privacy"),
    ({"strengths": {"privacy": 1.0}, "bound": "at_least"}, "bound"),
    ({"targets": {"privacy": 1.0}, "bound": "over"}, "bound"),
    ({"when": {"probe_below": 0.5}}, "when"),
    ({"strengths": {"privacy": 1.0}, "when": {"probe_below": 0}}, "when.probe_below"),
    ({"strengths": {"privacy": 1.0}, "when": {"probe_above": 0.5}}, "when.probe_above"),
    ({"strengths": {"privacy": 1.0}, "when": "probe"}, "when"),
    ({"strengths": {"privacy": 1.0}, "op": "project"}, "op"),
    ({"vectors": [reference()]}, "vectors.0.strength"),
    ({"vectors": [reference(op="project")]}, "vectors.0.target"),
    ({"vectors": [reference(op="project", target=1.0, strength=1.0)]}, "vectors.0.strength"),
    ({"vectors": [reference(strength=1.0, target=1.0)]}, "vectors.0.target"),
    ({"vectors": [reference(strength=1.0, bound="at_most")]}, "vectors.0.bound"),
    ({"vectors": [reference(strength=1.0, op="ablate")]}, "vectors.0.op"),
    ({"vectors": [reference(strength=1.0, when={"probe_below": 1.5})]}, "vectors.0.when.probe_below"),
]  # fmt: skip


@pytest.mark.parametrize(("steering", "param"), BAD)
def test_wrong_combinations_are_refused_by_name(client, steering, param):
    reply = client.post("/v1/completions", json={"prompt": PROMPT, "max_tokens": 2, "steering": steering})
    error = reply.json()["error"]
    assert (reply.status_code, error["code"], error["param"]) == (400, "invalid_steering", f"steering.{param}")


@pytest.mark.parametrize("place", ["targets", "when"])
def test_numbers_that_are_none_are_refused(client, place):
    steering = {"targets": {"targets": {"privacy": 0.25}}, "when": {"when": {"probe_below": 0.25}}}[place]
    body = json.dumps({"prompt": "x", "steering": steering}).replace("0.25", "NaN")
    reply = client.post("/v1/completions", content=body, headers={"content-type": "application/json"})
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "invalid_steering")
