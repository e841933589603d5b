"""The first screen on a registry that was empty: vectors of a pack, a prompt at which they show, and their verdicts."""

import shutil
from dataclasses import asdict

import httpx
import pytest

from tests.probe_qualities import GOOD, POOR
from tests.serving.conftest import Deployment
from tests.serving.listening import listening
from tests.serving.packs import EXAMPLE, shipped
from tests.serving.playground.test_page import finished, page, tab, text_of, visit

__all__ = ["page", "tab"]


@pytest.fixture(scope="module")
def pack(deployment, tmp_path_factory):
    return shipped(deployment, tmp_path_factory.mktemp("packs") / "mini")


@pytest.fixture(scope="module")
def service_url(deployment, pack, empty_database, tmp_path_factory):
    """A service that was started on an empty registry with a pack."""
    root = tmp_path_factory.mktemp("empty")
    shutil.copy(empty_database, root / "mlflow.db")
    empty = Deployment(deployment.model, f"sqlite:///{root / 'mlflow.db'}")
    with listening(empty, pack=str(pack.directory)) as url:
        yield url


def test_the_service_says_what_it_imported(service_url, pack):
    ready = httpx.get(f"{service_url}/readyz").json()
    assert ready["dimensions"] == ["fairness", "toxicity"]
    assert (ready["pack"]["state"], ready["pack"]["digest"]) == ("imported", pack.digest)
    told = httpx.get(f"{service_url}/v1/steering/dimensions").json()["data"]
    toxicity = next(served["vector"] for served in told if served["dimension"] == "toxicity")
    assert toxicity["imported_from"].startswith("models:/steer.mini.toxicity/")
    assert toxicity["calibration"]["tested"]["works"] is True
    answer = httpx.post(
        f"{service_url}/v1/completions",
        json={"model": "mini", "prompt": "You are", "max_tokens": 4, "steering": {"strengths": {"toxicity": 6}}},
        timeout=60,
    ).json()
    assert answer["steering"]["applied"][0]["dimension"] == "toxicity"


def test_it_opens_where_steering_shows(page, service_url):
    assert page.locator("#prompt").input_value() == EXAMPLE.prompt
    assert page.get_by_label("Send as").input_value() == "text"
    assert page.get_by_label("toxicity, strength").input_value() == "6"
    assert page.get_by_label("fairness, strength").input_value() == "0"
    page.click("#generate")
    unsteered, steered = finished(page)
    assert unsteered != steered
    assert "Words that only one of them has are marked." in text_of(page, "#difference")


def test_each_slider_says_whether_it_works(page):
    rows = {name: page.locator(".dimension").filter(has=page.get_by_label(name, exact=True)) for name in WORDS}
    for name, words in WORDS.items():
        assert text_of(rows[name], ".verdict") == words


WORDS = {
    "toxicity": (
        "✓ Works. At +6 SD: toxic continuations 30\xa0% → 18\xa0% [0\xa0%, 25\xa0%], a random direction at best "
        "28\xa0%; perplexity 1.04x (n = 120)"
    ),
    "fairness": (
        "✗ Does not work, so it opens at 0. At +2 SD: preference by +0.01 nats [−0.02, +0.04], "
        "a random direction at most +0.03; perplexity 1.01x (n = 60)"
    ),
}


@pytest.mark.parametrize("has_probe", [True, False])
def test_a_condition_is_offered_where_probes_are(page, service_url, has_probe):
    def without_probes(route):
        told = route.fetch().json()
        for served in told["data"]:
            served["probe_layer"] = served["probe_layer"] if has_probe else None
        route.fulfill(json=told)

    page.route("**/v1/steering/dimensions", without_probes)
    visit(page, f"{service_url}/")
    assert page.get_by_label("Only where the probe fires").is_enabled() == has_probe


def test_answers_are_shaded_by_what_a_measured_probe_reads(page, service_url):
    assert not page.get_by_label("Shade by").is_visible()  # the probes of statements say nothing of answers

    def measured(route):
        told = route.fetch().json()
        for served in (served for served in told["data"] if served["vector"]):
            quality = GOOD if served["dimension"] == "toxicity" else POOR
            served["vector"]["probe"] |= {"works": quality.works, "quality": asdict(quality)}
        route.fulfill(json=told)

    page.route("**/v1/steering/dimensions", measured)
    visit(page, f"{service_url}/")
    choices = page.get_by_label("Shade by").get_by_role("option").all_text_contents()
    assert choices == ["nothing", "toxicity"]
    page.get_by_label("Shade by").select_option("toxicity")
    assert "AUROC 0.80 [0.75, 0.85] at their tokens, 0.90 at their end (n = 200)" in text_of(page, "#monitor-hint")
    for streams in (True, False):
        page.get_by_label("Stream").set_checked(streams)
        page.click("#generate")
        for name, text in zip(("unsteered", "steered"), finished(page), strict=True):
            pieces = page.locator(f"#{name} .text .read").evaluate_all(
                "found => found.map(each => [each.textContent, each.title, each.style.getPropertyValue('--shade')])"
            )
            assert "".join(piece for piece, *_ in pieces) == text != ""
            for _, title, shade in pieces:
                assert float(shade) == pytest.approx(max(0, 1 - 2 * float(title.split()[-1])), abs=0.011)
            told = text_of(page, f"#{name} .applied")
            assert "P(trustworthy) by the probe of toxicity: mean 0." in told and "lowest 0." in told
    assert page.locator("mark").count() == 0
    visit(page, page.url)
    assert page.get_by_label("Shade by").input_value() == "toxicity"


def test_a_character_of_several_tokens_is_shaded(page):
    pieces = ["a", "", "", "", "😀", " b", "", "�c", " ", "��"]
    shown = (
        "({ text, readings }) => import('/playground/readings.js').then(({ shaded }) => shaded(text, readings).length)"
    )
    readings = [{"text": piece, "scores": {"toxicity": 0.5}} for piece in pieces]
    assert page.evaluate(shown, {"text": "".join(pieces), "readings": readings}) == 6


def test_an_address_with_a_setting_wins(page, service_url):
    visit(page, f"{service_url}/#prompt=Hello")
    assert page.locator("#prompt").input_value() == "Hello"
    assert page.get_by_label("toxicity, strength").input_value() == "0"


def test_chips_offer_what_works(page):
    chips = page.get_by_role("group", name="Examples").get_by_role("button").all_text_contents()
    assert chips == [f"toxicity +6: “{EXAMPLE.prompt} …”", "toxicity +6: “Say something mean about my cooking.”"]


def test_dimensions_without_a_vector_are_folded_below_the_sliders(page, service_url):
    assert page.get_by_role("slider").count() == 2
    told = page.locator("details.missing")
    assert text_of(told, "summary") == "Without a live vector: reliability, privacy, robustness"
    told.locator("summary").click()
    assert told.get_by_text("-P model=mini -P dimensions=reliability,privacy,robustness").is_visible()


def test_without_an_example_the_pages_own_prompt_opens_it(page):
    vector = {"example": None, "calibration": {"tested": {"works": True, "unsteered": None}}}
    served = [
        {"dimension": name, "vector": vector, "recommended": [0, 3], "hard": [-4, 4]}
        for name in ("privacy", "toxicity")
    ]
    opening = "async (dimensions) => (await import('/playground/examples.js')).opening(dimensions)"
    opened = page.evaluate(opening, served)
    assert (opened["prompt"], opened["strengths"]) == ("I think that you are", {"toxicity": 3})
    vector["calibration"]["tested"]["works"] = False
    assert page.evaluate(opening, served) is None


def test_the_vector_whose_verdict_falls_most_opens_the_page(page):
    def entry(name, share, change):
        """Calibration ranks the other way round."""
        verdict = {"works": True, "unsteered": share, "change": change}
        tested = {"works": True, "unsteered": 0.5, "shift": 0.5 + change}
        example = {"prompt": name, "chat": False, "max_tokens": 9, "strength": 2.0}
        vector = {"example": example, "calibration": {"tested": tested}, "text_verdict": verdict}
        return {"dimension": name, "vector": vector, "recommended": [0, 3], "hard": [-4, 4]}

    script = "async (dimensions) => (await import('/playground/examples.js')).opening(dimensions)"
    served = [entry("fairness", 0.35, -0.31), entry("privacy", 0.37, -0.365), entry("toxicity", 0.8, -0.4)]
    assert page.evaluate(script, served)["prompt"] == "privacy"
