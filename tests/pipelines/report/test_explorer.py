"""Series explorer in a real headless Chromium: by slider and keyboard, on a phone, in the dark, without a network."""

import io
import re

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

from pipelines.figures.style import ACCENT, CONTROL, FLOOR, GOLD
from pipelines.report.explorer import explorer
from pipelines.report.page import report_page
from pipelines.report.pictures import smaller_png
from pipelines.report.tracking import ChampionCard, ReportedRun
from registry.checkpoints import INIT
from tests.browser import CONTRASTS

DIMENSIONS = ("reliability", "privacy", "toxicity", "fairness", "robustness")
LINK = "http://127.0.0.1:5000/#/models/steer.m.toxicity/versions/3"


def reported(tables, figures=None):
    return ReportedRun("r1", "now", "c1", {"model": "m"}, tables, figures or {}, "Two of five are readable.")


def accuracy_at(position, layer, dimension):
    return 0.5 + 0.01 * position + 0.001 * layer + 0.02 * DIMENSIONS.index(dimension)


def tables(checkpoints, layers, dimensions=DIMENSIONS, statements=6):
    """Tables of a probing run of so many checkpoints, the random initialisation first."""
    series = [(INIT, -1), *((f"step{2**power}", 2**power) for power in range(checkpoints - 1))]
    rows, learnt = [], []
    for position, (revision, step) in enumerate(series):
        for dimension in dimensions:
            fixed = {
                "revision": revision,
                "step": step,
                "dimension": dimension,
                "ngram_floor": 0.55,
                "random_init": 0.52,
            }
            for layer in range(layers):
                for seed in (0, 1):  # of which the map shows the mean
                    value = accuracy_at(position, layer, dimension) + (0.02 if seed else -0.02)
                    rows.append({**fixed, "layer": layer, "seed": seed, "accuracy": value, "selected": ""})
            value = accuracy_at(position, layers - 1, dimension)
            interval = {"accuracy": value, "accuracy_low": value - 0.03, "accuracy_high": value + 0.03}
            if revision != INIT:
                rows.append({**fixed, **interval, "layer": layers - 1, "selected": "layer chosen on an inner fold"})
    for dimension in dimensions:
        for number in range(statements):
            revision, _ = series[1 + number % (checkpoints - 1)]
            learnt.append(
                {
                    "dimension": dimension, "statement": f"{dimension} statement {number} </script> {'x' * 100}",
                    "layer": layers - 1, "learnt": f"at {revision}", "revision": revision, "right_share": 0.5,
                    "random_init": number % 2 == 0,
                }
            )  # fmt: skip
        learnt.append({**learnt[-1], "statement": f"{dimension} is never learnt", "learnt": "never", "revision": None})
    floors = [{"dimension": name, "control": "ngram_floor", "accuracy_high": 0.555} for name in dimensions]
    initial = [{**row, "control": "random_init", "layer": layers - 1, "accuracy_high": 0.525} for row in floors]
    return {
        "probe.csv": pd.DataFrame(rows),
        "learnt.csv": pd.DataFrame(learnt),
        "controls.csv": pd.DataFrame(floors + initial).assign(seed=float("nan")),
    }


CHAMPION = ChampionCard({"dimension": "toxicity", "vector": "models:/steer.m.toxicity/3"}, LINK)


def test_stages_of_one_revision_have_a_place_each():
    """A line of several repositories, each of them at ``main``."""
    given = tables(3, 2, statements=4)
    stage_of = {INIT: None, "step1": "base", "step2": "sft"}
    probe, learnt = (
        given[name]
        .assign(stage=given[name]["revision"].map(stage_of), ingredient=None)
        .replace([*stage_of][1:], "main")
        for name in ("probe.csv", "learnt.csv")
    )
    probe.loc[probe["revision"] == "main", "step"] = 0
    found = explorer({"probe": reported({**given, "probe.csv": probe, "learnt.csv": learnt.drop(columns="stage")})})
    assert found.checkpoints == ("random initialisation", "base main", "sft main")
    accuracy = found.dimensions[0].accuracy
    assert [row[0] for row in accuracy] == pytest.approx([accuracy_at(place, 0, "reliability") for place in range(3)])
    assert found.dimensions[0].statements.learnt_at == (0, 4, 0)  # statements are learnt in the first stage


def test_cells_are_means_over_seeds():
    series = explorer({"probe": reported(tables(4, 2))}, (CHAMPION,))
    assert series.checkpoints == ("random initialisation", "step 1", "step 2", "step 4")
    toxicity = series.dimensions[2]
    assert toxicity.accuracy[3] == pytest.approx([accuracy_at(3, 0, "toxicity"), accuracy_at(3, 1, "toxicity")])
    assert toxicity.chosen == (
        "",
        "0.55 [0.52, 0.58], layer 1",
        "0.56 [0.53, 0.59], layer 1",
        "0.57 [0.54, 0.60], layer 1",
    )
    assert toxicity.above == (False, False, False, False)
    assert series.dimensions[3].above == (False, False, False, True)  # .541, .551, .561 beside .55, at most .555
    statements = toxicity.statements
    assert (statements.n, statements.n_never, statements.learnt_at) == (7, 1, (0, 2, 2, 2))
    assert [when for _, when in statements.first] == ["step 1", "step 1", "step 2", "step 2", "step 4", "step 4"]
    assert statements.last[0][1] == "step 4" and statements.never == ("toxicity is never learnt",)
    assert (toxicity.link, series.dimensions[0].link) == (LINK, "")


def test_steps_that_are_counted_anew_are_called_by_revision():
    content = tables(3, 1)["probe.csv"].replace({"step": {2: 1}})
    assert explorer({"probe": reported({"probe.csv": content})}).checkpoints == (
        "random initialisation",
        "step1",
        "step2",
    )


def test_older_runs_say_what_they_lack():
    assert explorer({}) is None
    assert explorer({"probe": reported({"probe.csv": pd.DataFrame({"n": [1]})})}) is None
    content = report_page("m", {"probe": reported({"probe.csv": tables(3, 1)["probe.csv"]})})
    assert "run <code>probe</code> again" in content and 'class="learnt-now"' not in content


def test_the_page_of_24_checkpoints_is_at_most_2_mb():
    curves = Figure(figsize=(6.4, 4.0), layout="constrained")
    for row in np.random.default_rng(0).normal(size=(6, 24)).cumsum(1):
        curves.subplots().plot(row, "o-")
    png = io.BytesIO()
    curves.savefig(png, dpi=200)
    figure = smaller_png(png.getvalue())
    assert len(figure) < len(png.getvalue()) / 2
    names = [f"{dimension}_{kind}" for dimension in DIMENSIONS for kind in ("heat_map", "curve", "profile")]
    probe = reported(tables(24, 32, statements=400), {name: figure for name in ("all_dimensions", *names)})
    numbers = pd.DataFrame(np.random.default_rng(0).normal(size=(500, 30)))
    drawn = {"information": 20, "vectors": 5, "calibrate": 5, "evaluate": 4}  # as many as for five dimensions
    others = {
        kind: reported({"a.csv": numbers}, {str(number): figure for number in range(count)})
        for kind, count in drawn.items()
    }
    assert len(report_page("m", {"probe": probe, **others}).encode()) <= 2_000_000


def test_thin_lines_and_pale_bands_keep_their_colours():
    curves = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = curves.subplots()
    axes.fill_between([0, 9], 0, [1, 5], color=ACCENT, alpha=0.2)
    axes.axhspan(4, 5, color="#dadada", linewidth=0)
    for height, colour in enumerate((ACCENT, FLOOR, CONTROL, GOLD)):
        axes.axhline(height, color=colour, linewidth=1)
    png = io.BytesIO()
    curves.savefig(png, dpi=200)
    shown = np.array(Image.open(io.BytesIO(smaller_png(png.getvalue()))).convert("RGB"), int).reshape(-1, 3)
    for colour in (ACCENT, FLOOR, CONTROL, GOLD):
        wanted = np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)])
        assert np.abs(shown - wanted).sum(1).min() < 40, colour
    pale = np.array([218, 218, 218])  # a grey band must not take another hue
    assert np.abs(shown - pale).sum(1).min() < 8


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    file = tmp_path_factory.mktemp("page") / "report.html"
    verdict = {"dimension": ["toxicity"], "preference": [0.5], "low": [0.3], "high": [0.7], "works": [True]}
    panel = io.BytesIO()
    Image.new("RGB", (1000, 550), "white").save(panel, "PNG")
    probe = reported(tables(6, 4), {"all_dimensions": panel.getvalue()})
    runs = {"probe": probe, "evaluate": reported({"verdicts.csv": pd.DataFrame(verdict)})}
    file.write_text(report_page("m", runs, (CHAMPION,)))
    return file.as_uri()


@pytest.fixture
def page(browser, address):
    """The page; whatever a test does there, no script fails, nothing is blocked and nothing else is loaded."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, offline=True)
    opened, faults, requests = context.new_page(), [], []
    opened.on("console", lambda message: faults.append(message.text) if message.type in ("error", "warning") else None)
    opened.on("pageerror", lambda error: faults.append(str(error)))
    opened.on("request", lambda request: requests.append(request.url))
    opened.goto(address)
    yield opened
    assert faults == []
    assert requests == [address]
    context.close()


def column(page, number):
    return page.locator(f"#map tr.layer td:nth-child({number + 2})").all_text_contents()


def test_the_arrow_keys_move_through_training(page):
    slider = page.get_by_role("slider", name="Checkpoint")
    slider.focus()
    assert slider.get_attribute("aria-valuetext") == "step 16"
    before = column(page, 0)
    assert before == [f"{accuracy_at(5, layer, 'reliability'):.2f}" for layer in (3, 2, 1, 0)]
    page.keyboard.press("ArrowLeft")
    assert page.locator("#name").text_content() == "step 8"
    assert page.locator("tr.worth td").nth(2).text_content() == "0.58 [0.55, 0.61], layer 3"
    page.keyboard.press("Home")
    assert slider.get_attribute("aria-valuetext") == "random initialisation"
    assert column(page, 0) == [f"{accuracy_at(0, layer, 'reliability'):.2f}" for layer in (3, 2, 1, 0)]
    assert column(page, 0) != before


@pytest.mark.parametrize("wide", [1280, 420])
def test_a_long_name_is_broken_between_its_words(browser, wide):
    names = ("anthropomorphisation", "tells_a_user_that_it_does_not_know", "overconfidence_in_statistics")
    renamed = {name: table.replace(dict(zip(DIMENSIONS, names, strict=False))) for name, table in tables(4, 2).items()}
    champion = ChampionCard({"dimension": names[1], "vector": f"models:/steer.pythia-70m.{names[1]}/3"}, LINK)
    content = report_page("m", {"probe": reported(renamed)}, (champion,))
    context = browser.new_context(viewport={"width": wide, "height": 900})
    page = context.new_page()
    page.set_content(content)
    cells = page.locator("#map th, #map a")
    assert names[1] in cells.all_text_contents()
    lines = "cell => [...cell.childNodes].map(part => { const range = new Range(); range.selectNode(part);"
    lines += " return range.getClientRects().length; })"
    broken = [cell.text_content() for cell in cells.all() if max(cell.evaluate(lines)) > 1]
    assert broken == [name for name in broken if " " in name]  # as "chosen layer [95 %]" is
    assert cells.evaluate_all("all => all.every(cell => cell.scrollWidth <= cell.clientWidth || cell.tagName == 'A')")
    context.close()


def test_statements_follow_the_slider(page):
    now = page.locator(".learnt-now").first
    slider = page.get_by_role("slider", name="Checkpoint")
    assert re.match(r"reliability: 6 of 7 are right from this checkpoint on, 1 of them not before", now.text_content())
    slider.press("Home")
    assert re.match(r"reliability: 0 of 7 ", now.text_content()) and now.locator("li").count() == 0
    slider.press("ArrowRight")
    assert re.match(r"reliability: 2 of 7 .*, 2 of them", now.text_content())
    slider.press("ArrowRight")
    assert re.match(r"reliability: 3 of 7 .*, 1 of them", now.text_content())
    slider.press("ArrowLeft")
    assert now.locator("li").first.text_content().startswith("reliability statement 0 </script>")
    details = page.locator("details", has_text="reliability: first, last and never learnt")
    details.locator("summary").click()
    assert details.get_by_text("reliability is never learnt").is_visible()
    assert page.get_by_role("link", name="steer.m.toxicity/3").get_attribute("href") == LINK


def test_a_phone_does_not_scroll_sideways(page):
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert page.get_by_role("slider", name="Checkpoint").bounding_box()["width"] > 300
    panel = page.locator(".panel img").bounding_box()
    assert panel["x"] < 30 and panel["width"] > 600  # its letters are read by scrolling it, and not the page
    effect = page.locator(".answers td:nth-child(2)")
    assert effect.evaluate("(cell) => getComputedStyle(cell, '::before').content") == '"effect, nats [95 %]: "'
    assert 0 <= effect.bounding_box()["x"] < 390 and effect.bounding_box()["width"] <= 390


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_background(page, scheme):
    page.emulate_media(color_scheme=scheme)
    page.evaluate("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
    contrasts = page.evaluate(CONTRASTS)
    assert len(contrasts) > 60
    assert [text for text, contrast in contrasts if contrast < 4.5] == []
