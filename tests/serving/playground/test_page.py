"""The playground in a real headless Chromium, against the application over HTTP."""

import ast
import json
import re
import subprocess
from collections.abc import Iterator

import pytest

from tests.browser import CONTRASTS
from tests.serving.listening import listening

playwright = pytest.importorskip("playwright.sync_api", reason="the page is tested with playwright; run make test")

CONTROLS = {"button", "checkbox", "combobox", "link", "slider", "spinbutton", "textbox", "disclosuretriangle"}


@pytest.fixture(scope="module")
def service_url(deployment) -> Iterator[str]:
    """Listening in this process: where pages are shown, no service of BentoML's need run meanwhile."""
    with listening(deployment, poll=60) as url:
        yield url


@pytest.fixture(scope="module")
def tab(browser) -> Iterator["playwright.Page"]:
    """One for all tests: a browser takes a second and a half to begin the process of another."""
    context = browser.new_context()
    opened = context.new_page()
    opened.set_default_timeout(30_000)
    yield opened
    context.close()


@pytest.fixture
def page(tab, service_url) -> Iterator["playwright.Page"]:
    """The page, laid out anew. Whatever a test does: no script fails, nothing leaves the service."""
    tab.goto("about:blank")
    tab.unroute_all()
    tab.context.clear_cookies()
    tab.set_viewport_size({"width": 1280, "height": 900})
    tab.emulate_media(reduced_motion="reduce", color_scheme="light")
    faults, requests = [], []
    listeners = {
        "console": lambda message: faults.append(message.text) if message.type in ("error", "warning") else None,
        "pageerror": lambda error: faults.append(str(error)),
        "request": lambda request: requests.append(request.url),
    }
    for event, listener in listeners.items():
        tab.on(event, listener)
    visit(tab, service_url)
    yield tab
    for event, listener in listeners.items():
        tab.remove_listener(event, listener)
    refused = "Failed to load resource: the server responded with a status of 4"
    assert [fault for fault in faults if not fault.startswith(refused)] == []
    assert [url for url in requests if not url.startswith(f"{service_url}/")] == []


def visit(page, url: str) -> None:
    page.goto("about:blank")
    page.goto(url)
    page.wait_for_selector("#generate[aria-disabled=false]")


def generate(page) -> tuple[str, str]:
    """Both answers, when they are complete."""
    page.click("#generate")
    return finished(page)


def finished(page) -> tuple[str, str]:
    page.wait_for_selector("#stop:disabled")
    return text_of(page, "#unsteered .text"), text_of(page, "#steered .text")


def text_of(page, selector: str) -> str:
    return page.locator(selector).text_content()


def accessible(page) -> list[tuple[str, str]]:
    """Role and name of every control, as the browser tells them to a screen reader."""
    tree = page.context.new_cdp_session(page).send("Accessibility.getFullAXTree")["nodes"]
    told = [
        (node["role"]["value"].lower(), node.get("name", {}).get("value", "")) for node in tree if not node["ignored"]
    ]
    return [(role, name) for role, name in told if role in CONTROLS]


def strengths_of(page) -> dict[str, float]:
    return page.evaluate(
        "Object.fromEntries([...document.querySelectorAll('[type=range]')].map((one) => [one.id, +one.value]))"
    )


def test_every_dimension_has_a_slider_in_range(page, service_url):
    for served in page.request.get(f"{service_url}/v1/steering/dimensions").json()["data"]:
        row = page.locator(".dimension").filter(has=page.get_by_label(served["dimension"], exact=True))
        slider = row.get_by_role("slider")
        low, high = float(slider.get_attribute("min")), float(slider.get_attribute("max"))
        assert served["hard"] == pytest.approx([low, high], abs=0.1)
        assert served["hard"][0] <= low < 0 < high <= served["hard"][1]
        band, track = row.locator(".recommended").bounding_box(), slider.bounding_box()
        assert 0 < band["width"] < track["width"]
        middle_of_band, middle_of_track = (box["x"] + box["width"] / 2 for box in (band, track))
        if served["recommended"] == [-served["recommended"][1], served["recommended"][1]]:
            assert middle_of_band == pytest.approx(middle_of_track, abs=1)


def test_a_number_beyond_the_recommended_range_is_said_in_words(page, service_url):
    served = page.request.get(f"{service_url}/v1/steering/dimensions").json()["data"][0]
    beyond = sum((served["recommended"][1], served["hard"][1])) / 2
    page.get_by_label(f"{served['dimension']}, strength").fill(str(beyond))
    slider = page.get_by_role("slider", name=served["dimension"])
    assert "beyond the recommended range" in slider.get_attribute("aria-valuetext")
    assert page.get_by_text("Beyond the recommended range").is_visible()
    page.get_by_role("button", name=f"Reset {served['dimension']} to 0").click()
    assert slider.get_attribute("aria-valuetext") == "0 standard deviations"


def test_generate_streams_both_answers_and_says_what_was_applied(page):
    slider = page.get_by_role("slider").first
    slider.press("ArrowRight")
    unsteered, steered = generate(page)
    assert unsteered and steered
    applied = page.locator("#steered .applied")
    assert applied.get_by_role("row").count() == 2
    assert "+0.1" in applied.text_content() and "%" in applied.text_content()
    assert re.search(r"Fingerprint[0-9a-f]{32}", applied.text_content())
    assert "Nothing was applied." in text_of(page, "#unsteered .applied")
    assert re.search(r"\d+ tokens? in ", text_of(page, "#steered"))
    assert steered in text_of(page, "#status")


def test_projection_and_condition_stay_in_the_address(page):
    page.get_by_role("slider").first.press("PageUp")
    page.get_by_label("Steer by").select_option("project")
    page.get_by_label("Only where the probe fires").check()
    with page.expect_request(lambda request: '"targets":{"' in (request.post_data or "")) as asked:
        answers = generate(page)
    sent = asked.value.post_data_json["steering"]
    assert all(answers) and sent["when"] == {} and all(value == 0 for value in sent["strengths"].values())
    applied = page.locator("#steered .applied")
    assert re.search(r"projected where P\(trustworthy\) < 0\.5, at \d+ tokens?", applied.text_content())
    page.get_by_label("Stream").uncheck()
    assert generate(page) == answers
    visit(page, page.url)
    assert page.get_by_label("Steer by").input_value() == "project"
    assert page.get_by_label("Only where the probe fires").is_checked()


def test_strength_0_gives_two_identical_answers(page):
    page.get_by_label("Temperature").fill("1")
    unsteered, steered = generate(page)
    assert unsteered == steered != ""
    assert text_of(page, "#difference") == "The two answers are identical."


def test_without_streaming_both_answers_come_together(page):
    page.get_by_role("slider").first.press("PageUp")
    page.get_by_label("Stream").uncheck()
    with page.expect_request("**/v1/steering/compare"):
        answers = generate(page)
    assert all(answers)
    assert re.search(r"Fingerprint[0-9a-f]{32}", text_of(page, "#steered .applied"))


def test_a_refusal_is_shown_as_the_answer(page):
    page.get_by_role("textbox", name="Prompt").fill("the city " * 5000)
    page.click("#generate")
    finished(page)
    assert re.search(r"4\d\d \w+", page.get_by_role("alert").first.text_content())


def test_words_that_one_answer_has_alone_are_marked(page):
    page.get_by_label("Send as").select_option("text")
    page.get_by_role("slider").first.press("End")
    unsteered, steered = generate(page)
    assert unsteered != steered
    answers = {name: page.locator(f"#{name} .text") for name in ("unsteered", "steered")}
    assert [answers[name].text_content() for name in answers] == [unsteered, steered]  # marks change no letter
    common = [remaining(answer) for answer in answers.values()]
    assert common[0] == common[1]
    assert "are marked" in text_of(page, "#difference")
    assert page.locator(".text mark").count() > 0


def remaining(answer) -> list[str]:
    """The words outside of marks."""
    outside = """(node) => {
      const copy = node.cloneNode(true);
      copy.querySelectorAll("mark").forEach((mark) => mark.remove());
      return copy.textContent;
    }"""
    return answer.evaluate(outside).split()


@pytest.mark.parametrize(
    ("one", "other", "marks"),
    [
        ("a b c d", "a x c d", [["b"], ["x"]]),
        ("a b", "a b", [[], []]),
        ("the cat sat down", "the dog ran off and sat", [["cat", "down"], ["dog ran off and"]]),
        ("  a\n b ", "b", [["a"], []]),
    ],
)
def test_marks_are_those_of_a_diff(page, one, other, marks):
    script = """async ([one, other]) => {
      const { differing, marked } = await import("./playground/words.js");
      return differing(one, other).map((marks, index) => {
        const place = document.createElement("p");
        place.append(...marked([one, other][index], marks));
        return [place.textContent, [...place.querySelectorAll("mark")].map((mark) => mark.textContent)];
      });
    }"""
    assert page.evaluate(script, [one, other]) == [[one, marks[0]], [other, marks[1]]]


def test_answers_too_long_to_compare_stay_unmarked(page):
    script = 'async () => (await import("./playground/words.js")).differing("a ".repeat(2001), "b")'
    assert page.evaluate(script) is None


def test_each_side_goes_on_from_its_own_answers(page):
    page.get_by_role("textbox", name="Prompt").fill("Is it the city?")
    page.get_by_label("Max tokens").fill("8")
    page.get_by_role("slider").first.press("End")
    first = dict(zip(("unsteered", "steered"), generate(page), strict=True))
    page.get_by_role("button", name="Ask the next turn").click()
    assert page.locator("#steered .turns li").count() == 1 and first["steered"] in text_of(page, "#steered .turns")
    page.get_by_role("textbox", name="Prompt").fill("Is it a letter?")
    sent = []
    page.on("request", lambda request: sent.append(request.post_data_json) if request.method == "POST" else None)
    page.get_by_label("Stream").uncheck()  # each side has another history, so that one comparison cannot ask both
    second = generate(page)
    earlier = {"off" if body["steering"] == "off" else "on": body["messages"] for body in sent}
    for steering, name in (("off", "unsteered"), ("on", "steered")):
        assert earlier[steering] == [
            {"role": "user", "content": "Is it the city?"},
            {"role": "assistant", "content": first[name]},
            {"role": "user", "content": "Is it a letter?"},
        ]
    page.get_by_role("button", name="Copy as curl").click()
    answer = subprocess.run(["bash", "-c", text_of(page, "#code")], capture_output=True, text=True, check=True)
    assert json.loads(answer.stdout)["choices"][0]["message"]["content"] == second[1]
    page.get_by_role("button", name="New conversation").click()
    assert page.locator(".turns li").count() == 0
    assert page.get_by_role("button", name="Ask the next turn").is_disabled()


def test_an_answer_that_failed_is_no_turn(page):
    page.get_by_role("textbox", name="Prompt").fill("the city " * 5000)
    generate(page)
    assert page.get_by_role("button", name="Ask the next turn").is_disabled()


def test_the_link_that_is_copied_holds_the_setting(page):
    page.get_by_role("textbox", name="Prompt").fill("Is it Paris?")
    page.get_by_role("button", name="Copy link").click()
    visit(page, text_of(page, "#code"))
    assert page.get_by_role("textbox", name="Prompt").input_value() == "Is it Paris?"


def test_stop_ends_both_answers_and_leaves_the_page_usable(page):
    network = page.context.new_cdp_session(page)
    slow = {"offline": False, "latency": 5000, "downloadThroughput": -1, "uploadThroughput": -1}
    network.send("Network.emulateNetworkConditions", slow)
    page.click("#generate")
    page.click("#stop")
    finished(page)
    assert "stopped" in text_of(page, "#unsteered") and "stopped" in text_of(page, "#steered")
    network.send("Network.emulateNetworkConditions", {**slow, "latency": 0})
    assert all(generate(page))


def test_the_address_holds_the_setting_and_never_the_key(page, service_url):
    page.get_by_text("API key").click()
    page.get_by_label("Key, kept only").fill("secret-of-mine")
    page.get_by_role("textbox", name="Prompt").fill("Is Paris in Peru? 100 % & more")
    page.get_by_label("Seed").fill("3")
    page.get_by_role("slider").first.press("ArrowLeft")
    generate(page)
    address, strengths = page.url, strengths_of(page)
    assert "secret" not in address
    visit(page, address)
    assert page.get_by_role("textbox", name="Prompt").input_value() == "Is Paris in Peru? 100 % & more"
    assert page.get_by_label("Seed").input_value() == "3"
    assert strengths_of(page) == strengths and -0.1 in strengths.values()
    assert page.get_by_label("Key, kept only").input_value() == ""
    visit(page, f"{service_url}/#strength.humility=1")
    assert "asks for humility" in text_of(page, "#notice")


def test_the_keyboard_alone_is_enough(page):
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.keyboard.press("Shift+Tab")
    for _ in range(100):
        if page.evaluate("document.activeElement.type") == "range":
            break
        page.keyboard.press("Shift+Tab")
    page.keyboard.press("ArrowRight")
    assert 0.1 in strengths_of(page).values()
    page.get_by_role("textbox", name="Prompt").focus()
    page.keyboard.press("ControlOrMeta+A")
    page.keyboard.type("Is the city")
    page.keyboard.press("Control+Enter")
    assert all(finished(page))
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"


def test_controls_have_names_and_ids_are_unique(page):
    generate(page)
    page.get_by_text("API key").click()
    controls = accessible(page)
    assert {"slider", "spinbutton", "button", "textbox", "combobox", "checkbox"} <= {role for role, _ in controls}
    assert [role for role, name in controls if not name.strip()] == []
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map((one) => one.id)")
    assert len(ids) == len(set(ids))


def test_a_slider_says_what_each_direction_means(page, service_url):
    served = page.request.get(f"{service_url}/v1/steering/dimensions").json()["data"][0]
    ends = page.locator(".ends").first.locator("span").all_text_contents()
    assert ends == [f"← {served['untrustworthy']}", f"{served['trustworthy']} →"]


@pytest.mark.parametrize("choice", ["clamp", "warn"])
def test_beyond_the_hard_range_the_service_decides(page, service_url, choice):
    served = page.request.get(f"{service_url}/v1/steering/dimensions").json()["data"][0]
    page.get_by_label(f"{served['dimension']}, strength").fill(str(served["hard"][1] + 1))
    assert page.get_by_text("Beyond the hard range").is_visible()
    page.get_by_label("If too strong").select_option("reject")
    generate(page)
    assert re.search(r"4\d\d \w+", page.locator("#steered").get_by_role("alert").text_content())
    page.get_by_label("If too strong").select_option(choice)
    assert all(generate(page))
    assert page.locator("#steered .applied").get_by_role("row").count() == 2


JOINT = {
    "strengths": {"toxicity": 2.0, "privacy": 1.0, "fairness": 1.0},
    "scale": 0.707,
    "scales": {"toxicity": 0.5, "privacy": 0.8},
    "kept": {"toxicity": 1.2, "privacy": 0.634, "fairness": 1.0},
    "perplexity_ratio": 1.114,
    "run_id": "r",
}


def measured_together(page, service_url, *dimensions):
    """The page, as if the live vectors of ``dimensions`` had been calibrated together."""

    def answer(route):
        served = route.fetch().json()
        for entry in served["data"]:
            if entry["dimension"] in dimensions:
                entry["vector"]["joint_limit"] = JOINT
        route.fulfill(json=served)

    page.route("**/steering/dimensions", answer)
    visit(page, service_url)


def set_strength(page, dimension, strength):
    page.get_by_label(f"{dimension}, strength").fill(str(strength))


def test_the_joint_limit_is_shown_and_can_be_set(page, service_url):
    measured_together(page, service_url, "toxicity", "privacy", "fairness")
    assert text_of(page, ".joint .hint >> nth=0").startswith(
        "Together measured at privacy +0.8, toxicity +1, fairness +0.71: perplexity 1.11x, and each keeps at least 63 %"
    )
    warning = page.locator(".joint .warning")
    for toxicity, privacy, warned in ((2, 0, ""), (2, 0.8, ""), (2.2, 0.8, "1.1"), (1, 2, "1.2"), (1, 0, "")):
        set_strength(page, "toxicity", toxicity)
        set_strength(page, "privacy", privacy)
        assert warning.is_visible() == bool(warned)
        assert f"{warned} times what was measured" in warning.text_content() if warned else True
    page.click("text=Set these strengths")
    numbers = {name: page.get_by_label(f"{name}, strength").input_value() for name in JOINT["strengths"]}
    assert {name: float(value) for name, value in numbers.items()} == {"toxicity": 1.0, "privacy": 0.8, "fairness": 0.7}
    assert "strength.privacy=0.8" in page.url and not warning.is_visible()


def test_a_vector_that_was_measured_apart_is_left_out(page, service_url):
    measured_together(page, service_url, "toxicity", "privacy")
    assert "measured at privacy +0.8, toxicity +1: perplexity" in text_of(page, ".joint .hint >> nth=0")
    warning = page.locator(".joint .warning")
    for dimension, strength in (("toxicity", 1), ("privacy", 1), ("fairness", 3)):
        set_strength(page, dimension, strength)
    assert not warning.is_visible()
    set_strength(page, "privacy", 2)
    assert "1.2 times what was measured" in warning.text_content()


def test_projections_do_not_count_towards_the_joint_limit(page, service_url):
    measured_together(page, service_url, "toxicity", "privacy")
    for dimension in JOINT["strengths"]:
        set_strength(page, dimension, 3)
    warning = page.locator(".joint .warning")
    assert warning.is_visible()
    page.select_option("[name=op]", "project")
    assert not warning.is_visible()


def test_one_vector_has_no_joint_limit_on_the_page(page, service_url):
    measured_together(page, service_url, "toxicity")
    assert page.locator(".joint").count() == 0


def test_an_example_generates_with_its_strength(page):
    chip = page.get_by_role("group", name="Examples").get_by_role("button").first
    dimension, _, strength = chip.text_content().partition(":")[0].partition(" ")
    chip.click()
    assert all(finished(page))
    assert page.locator("#steered .applied").get_by_role("row").count() == 2
    assert strengths_of(page)[f"strength-{dimension}"] == pytest.approx(float(strength), abs=0.06)
    assert page.get_by_label("Send as").input_value() == "text"


@pytest.mark.parametrize("prompt_format", ["chat", "text"])
def test_the_request_as_code_gives_the_steered_answer(page, prompt_format):
    page.get_by_role("textbox", name="Prompt").fill('Isn\'t it $5 \\ or "6"?\nIs it')
    page.get_by_label("Send as").select_option(prompt_format)
    page.get_by_label("Max tokens").fill("8")
    page.get_by_role("slider").first.press("PageUp")
    _, steered = generate(page)
    page.get_by_role("button", name="Copy as curl").click()
    answer = subprocess.run(["bash", "-c", text_of(page, "#code")], capture_output=True, text=True, check=True)
    choice = json.loads(answer.stdout)["choices"][0]
    assert (choice["message"]["content"] if prompt_format == "chat" else choice["text"]) == steered
    page.get_by_role("button", name="Copy as Python").click()
    code = text_of(page, "#code")
    compile(code, "copied", "exec")
    (call,) = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call) and len(node.keywords) > 3]
    sent = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}
    assert sent["extra_body"]["steering"]["on_exceed"] == "reject"
    assert "Isn't it $5" in json.dumps(sent)


def test_on_a_phone_the_prompt_comes_before_the_sliders(page):
    page.set_viewport_size({"width": 400, "height": 800})
    prompt, slider = page.get_by_role("textbox", name="Prompt"), page.get_by_role("slider").first
    assert prompt.bounding_box()["y"] < slider.bounding_box()["y"]


def test_on_a_phone_generating_brings_the_answers_into_sight(page):
    page.set_viewport_size({"width": 400, "height": 800})
    assert page.locator("#unsteered").bounding_box()["y"] > 800
    generate(page)
    assert 0 <= page.locator("#answers-title").bounding_box()["y"] < 400
    assert page.locator("#unsteered").bounding_box()["y"] < 400


def test_turns_are_offered_for_conversations_alone(page):
    following = page.get_by_role("button", name="Ask the next turn")
    for form, offered in (("chat", True), ("text", False), ("chat", True)):
        page.get_by_label("Send as").select_option(form)
        assert following.is_visible() == offered


def test_a_narrow_screen_does_not_scroll_sideways(page, service_url):
    page.set_viewport_size({"width": 390, "height": 800})
    page.get_by_role("slider").first.press("ArrowRight")
    generate(page)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    applied = page.locator("#steered .scroll")
    assert applied.evaluate("(table) => table.scrollWidth - table.clientWidth") == 0
    page.goto(f"{service_url}/docs")
    assert page.evaluate("document.documentElement.scrollWidth") == 390


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_background(page, scheme):
    page.emulate_media(color_scheme=scheme)
    page.get_by_role("slider").first.press("End")
    generate(page)
    contrasts = page.evaluate(CONTRASTS)
    assert len(contrasts) > 50
    assert [text for text, contrast in contrasts if contrast < 4.5] == []
