"""A share of the requests to the real service is steered by challengers, and says so."""

import random
import shutil

import httpx
import mlflow

from tests.serving.conftest import Deployment, Service, promoted, tracked_at

SEEDS = range(12)


def test_a_share_of_requests_is_steered_by_the_challenger(deployment, tmp_path):
    database = tmp_path / "mlflow.db"
    shutil.copy(deployment.tracking_uri.removeprefix("sqlite:///"), database)
    copied = Deployment(deployment.model, f"sqlite:///{database}")
    with tracked_at(copied.tracking_uri):
        newer = promoted(copied, "toxicity", seed=77)
        client = mlflow.MlflowClient()
        client.set_registered_model_alias(newer.name, "champion", "1")
        client.set_registered_model_alias(newer.name, "challenger", newer.version)
    running = Service(copied, tmp_path / "log", TRUSTTRACE_CHALLENGER="0.5")
    try:
        running.await_ready()
        with httpx.Client(base_url=running.url, timeout=60) as http:
            drawn = {seed: variant(http, seed) for seed in SEEDS}
            expected = {seed: random.Random(seed).random() < 0.5 for seed in SEEDS}
            assert drawn == {seed: (newer.version, "challenger") if expected[seed] else ("1", None) for seed in SEEDS}
            dimensions = http.get("/v1/steering/dimensions").json()["data"]
            (named,) = {info["challenger"] for info in dimensions} - {None}
            lines = dict(line.rsplit(" ", 1) for line in http.get("/metrics").text.splitlines() if line[:1] != "#")
    finally:
        running.stop()
    assert named == f"{newer.name}/{newer.version}"
    for variant, n in (("challenger", sum(expected.values())), ("champion", len(SEEDS) - sum(expected.values()))):
        labels = f'dimension="toxicity",variant="{variant}"'
        ended = f'trusttrace_variant_answers_total{{dimension="toxicity",finish_reason="length",variant="{variant}"}}'
        assert float(lines[ended]) == n
        assert float(lines[f"trusttrace_variant_generated_tokens_total{{{labels}}}"]) == 2 * n
    counted = 'trusttrace_variant_requests_total{dimension="toxicity",variant="%s"}'
    assert float(lines[counted % "challenger"]) == sum(expected.values())
    assert float(lines[counted % "champion"]) == len(SEEDS) - sum(expected.values())


def variant(http, seed):
    body = {"prompt": "The city", "max_tokens": 2, "seed": seed, "steering": {"strengths": {"toxicity": 0.5}}}
    (applied,) = http.post("/v1/completions", json=body).json()["steering"]["applied"]
    return applied["version"], applied.get("alias")
