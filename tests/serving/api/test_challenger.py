"""A share of the requests is steered by challengers, and says so in the answer and in the metrics."""

import random

import mlflow

from serving.api import metrics
from tests.serving.api.test_lifecycle import registry, serving, until

__all__ = ["registry"]
SEEDS = range(12)


EACH = {
    'requests_total{dimension="toxicity",variant="%s"}': 1,
    'answers_total{dimension="toxicity",finish_reason="length",variant="%s"}': 1,
    'generated_tokens_total{dimension="toxicity",variant="%s"}': 2,
}
"""By how much an answer raises each counter of its variant."""


def test_a_share_of_requests_is_steered_by_the_challenger(registry, promote, monkeypatch):
    monkeypatch.setenv("TRUSTTRACE_CHALLENGER", "0.5")
    newer = promote(registry, "toxicity", layer=(1, 2), seed=77)
    client = mlflow.MlflowClient()
    client.set_registered_model_alias(newer.name, "champion", "1")
    client.set_registered_model_alias(newer.name, "challenger", newer.version)
    with serving(registry, on_end=metrics.observe) as (_, http):
        before = counted(http)
        drawn = {seed: variant(http, seed) for seed in SEEDS}
        expected = {seed: random.Random(seed).random() < 0.5 for seed in SEEDS}
        assert drawn == {seed: (newer.version, "challenger") if expected[seed] else ("1", None) for seed in SEEDS}
        (named,) = {info["challenger"] for info in http.get("/v1/steering/dimensions").json()["data"]} - {None}
        assert named == f"{newer.name}/{newer.version}"
        listed = {info["version"]: info for info in http.get("/v1/steering/vectors").json()["data"]}
        assert (listed[newer.version]["layers"], listed[newer.version]["layer"]) == ([1, 2], 1)
        answers = {"challenger": sum(expected.values()), "champion": len(SEEDS) - sum(expected.values())}
        assert set(answers.values()) != {0, len(SEEDS)}
        after = {(name, of): before[name, of] + EACH[name] * answers[of] for name, of in before}
        until(lambda: counted(http) == after)


def counted(http):
    lines = dict(line.rsplit(" ", 1) for line in http.get("/metrics").text.splitlines() if line[:1] != "#")
    variants = ("champion", "challenger")
    return {(name, of): float(lines.get(f"trusttrace_variant_{name % of}", 0)) for name in EACH for of in variants}


def variant(http, seed):
    body = {"prompt": "The city", "max_tokens": 2, "seed": seed, "steering": {"strengths": {"toxicity": 0.5}}}
    (applied,) = http.post("/v1/completions", json=body).json()["steering"]["applied"]
    assert applied["layers"] == ([1, 2] if "alias" in applied else [1])
    return applied["version"], applied.get("alias")
