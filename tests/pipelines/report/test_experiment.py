"""Report: a page that escapes, needs nothing else, and shows a user's runs."""

import re
from collections import Counter
from html.parser import HTMLParser

import mlflow
import pandas as pd
import pytest
from matplotlib.figure import Figure

from pipelines.cli.command import run_command
from pipelines.main.options import MainOptions
from pipelines.probe.__main__ import main as probe
from pipelines.report.__main__ import main
from pipelines.report.options import ReportOptions
from pipelines.report.page import calibration_command, report_page
from pipelines.report.tracking import ChampionCard, ReportedRun
from registry.errors import InvalidInput
from tests.small_statements import write_statements

CALIBRATE = "mlflow run . -e calibrate --env-manager local"
NASTY = "<script>alert('x')</script> & \"quoted\""


class Checker(HTMLParser):
    """Tags that stand open, and the addresses that a browser would load."""

    VOID = frozenset({"meta", "img", "input", "wbr"})

    def __init__(self, content):
        super().__init__()
        self.open, self.tags, self.loads = [], [], []
        self.feed(content)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.loads += [value for name, value in attributes if name in ("src", "action")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def reported(**more):
    values = {"run_id": "r1", "started": "now", "commit": "c1", "params": {"model": NASTY}, "tables": {}, "figures": {}}
    return ReportedRun(**{**values, **more})


def test_every_value_is_escaped():
    nasty = pd.DataFrame({NASTY: [NASTY]})
    run = reported(
        tables={NASTY: nasty, "verdicts.csv": nasty.rename(columns={NASTY: "dimension"})}, figures={NASTY: b"1"}
    )
    content = report_page(NASTY, {"calibrate": run, "evaluate": run}, (ChampionCard({NASTY: NASTY}),))
    checked = Checker(content)
    assert "script" not in checked.tags
    assert NASTY not in content
    # Each way into the page but title and heading, which have the last part of the name: where it is read from,
    # champions, tables, their labels, captions, alternatives, configuration.
    assert content.count("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt; &amp; &#34;quoted&#34;") == 20
    assert Counter(checked.tags)["img"] == 2


def test_the_first_screen_answers_each_dimension():
    probe = pd.DataFrame(
        {
            "dimension": ["toxicity", "toxicity", "privacy"],
            "step": [1000, 2000, 2000],
            "layer": [3, 4, 5],
            "accuracy": [0.9, 0.81, 0.6],
            "accuracy_low": [0.8, 0.75, 0.5],
            "accuracy_high": [1.0, 0.86, 0.7],
            "random_init": [0.5, 0.52, 0.51],
            "ngram_floor": [0.5, 0.7, 0.55],
            "selected": [None, "checkpoint and layer chosen in nested folds", "checkpoint and layer chosen"],
        }
    )
    controls = pd.DataFrame(
        {
            "control": ["ngram_floor", "ngram_floor", "random_init", "random_init"],
            "dimension": ["toxicity", "privacy"] * 2,
            "layer": [None, None, 4, 5],
            "accuracy_high": [0.72, 0.6, 0.55, 0.55],
            "seed": [None] * 4,
        }
    )
    verdict = {"dimension": ["toxicity"], "preference": [0.5], "low": [0.3], "high": [0.7], "works": [True]}
    runs = {
        "probe": reported(
            tables={"probe.csv": probe, "controls.csv": controls}, verdict="1 of 2 dimensions are readable."
        ),
        "evaluate": reported(tables={"verdicts.csv": pd.DataFrame({**verdict, "strength": [2.0]})}),
    }
    content = report_page("m", runs)
    toxicity = ("toxicity", "step 2,000, layer 4", "0.81 [0.75, 0.86]", "yes", "0.50 [0.30, 0.70]", "yes", "2")
    privacy = ("privacy", "step 2,000, layer 5", "0.60 [0.50, 0.70]", "no", *["not measured"] * 3)
    for row in (toxicity, privacy):
        assert "".join(f"<td>{cell}</td>" for cell in row) in content
    assert "<li>1 of 2 dimensions are readable.</li>" in content
    ladder = pd.DataFrame({"dimension": ["toxicity", "privacy"], "lexical": [True, False]})
    lexical = report_page("m", {"probe": reported(tables={"probe.csv": probe, "ladder.csv": ladder})})
    assert lexical.count(", lexical</td>") == 1
    text = pd.DataFrame(
        {"dimension": ["toxicity"], "unsteered": [0.3], "steered": [0.28], "n": [200], "works": [False]}
    )
    runs["evaluate"] = reported(tables={**runs["evaluate"].tables, "text.csv": text})
    judged = (*toxicity[:-2], "30.0% → 28.0% (n = 200)", "no", "2")
    assert "".join(f"<td>{cell}</td>" for cell in judged) in report_page("m", runs)
    assert content.index("<li>") < content.index("step 2,000") < content.index("<h2>")


def test_what_was_calibrated_alone_is_on_the_first_screen():
    calibrated = pd.DataFrame(
        {
            "dimension": ["humility", "toxicity"],
            "works": [False, True],
            "strength": [4.97, 2.55],
            "unsteered": [None, 0.25],
            "shift": [0.052, 0.15],
            "low": [-0.154, 0.06],
            "high": [0.258, 0.24],
            "n": [12, 118],
        }
    )
    runs = {"calibrate": reported(tables={"calibrated.csv": calibrated})}
    humility = ("humility", "0.05 [-0.15, 0.26]", "not measured", "no", "4.97")
    toxicity = ("toxicity", "not measured", "25.0% → 10.0% (n = 118)", "yes", "2.55")
    for row in (humility, toxicity):
        assert "".join(f"<td>{cell}</td>" for cell in row) in report_page("m", runs)
    verdict = {"dimension": ["humility"], "preference": [0.5], "low": [0.3], "high": [0.7], "works": [True]}
    runs["evaluate"] = reported(tables={"verdicts.csv": pd.DataFrame({**verdict, "strength": [2.0]})})
    evaluated = ("humility", "0.50 [0.30, 0.70]", "not measured", "yes", "2")
    assert "".join(f"<td>{cell}</td>" for cell in evaluated) in report_page("m", runs)


def test_tables_show_four_digits_and_fold_and_cut_long_ones():
    rows = pd.DataFrame({"x": [0.123456, float("nan")], "ok": [True, False], "n": [1200, 3]})
    content = report_page("m", {"probe": reported(tables={"short.csv": rows})})
    assert re.findall(r"<td(?: class=\"number\")?>([^<]*)</td>", content) == ["0.1235", "yes", "1200", "", "no", "3"]
    assert "<details>" not in content
    content = report_page("m", {"probe": reported(params={}, tables={"long.csv": pd.DataFrame({"n": range(2500)})})})
    assert "<details><summary>long.csv: 2500 rows, the first 100 here</summary>" in content
    assert content.count("<tr>") == 101
    folded = report_page("m", {"probe": reported(params={}, tables={"some.csv": pd.DataFrame({"n": range(31)})})})
    assert "<details><summary>some.csv: 31 rows</summary>" in folded


def test_every_figure_says_its_n_its_interval_and_its_control():
    rows = pd.DataFrame({"dimension": ["toxicity", "privacy"], "n": [84, 160]})
    run = reported(tables={"calibration.csv": rows}, figures={"toxicity_calibration": b"1", "other": b"2"})
    content = report_page("m", {"calibrate": run})
    Checker(content)
    first, second = re.findall(r"<figcaption>(.*?)</figcaption>", content)
    assert first.startswith("toxicity calibration. n = 84. ")
    assert second.startswith("other. n = 84 to 160. ")
    assert all("95 % bootstrap" in caption and "random directions" in caption for caption in (first, second))
    assert "run r1, now, commit c1" in content
    assert "<script>" not in content


def test_sections_follow_the_work_and_verdicts_precede_figures():
    verdicts = pd.DataFrame({"dimension": ["toxicity"], "works": [True], "n": [84]})
    runs = {
        "evaluate": reported(tables={"evaluate.csv": verdicts, "verdicts.csv": verdicts}, figures={"effects": b"1"}),
        "probe": reported(),
    }
    content = report_page("m", runs)
    assert content.index("<table>") < content.index("<h2>")
    order = ("becomes readable", "Whether steering works", "verdicts.csv", "<img", "evaluate.csv")
    places = [content.index(part) for part in order]
    assert places == sorted(places)


@pytest.mark.parametrize(
    ("name", "words"),
    [("", "is a directory; give a file, such as"), ("away/x.html", "lies in no directory; make it: mkdir -p")],
)
def test_a_page_that_cannot_be_written_is_refused_at_once(tmp_path, name, words):
    for options in (ReportOptions, MainOptions):
        with pytest.raises(InvalidInput, match=words):
            options(output=str(tmp_path / name))


def test_a_page_names_no_calibration_that_refuses(tmp_path):
    enough, few = (write_statements(tmp_path / str(openings), openings=openings) for openings in (40, 12))
    for path, words in ((enough, f" -P data={enough}"), (few, None), (tmp_path / "gone.csv", None)):
        command = calibration_command("m", reported(params={"data": str(path), "dimensions": "toxicity"}))
        assert command == ("" if words is None else f"{CALIBRATE} -P model=m -P dimensions=toxicity{words}")
    assert calibration_command("m", reported(params={"data": "packaged"})) == f"{CALIBRATE} -P model=m"


def test_a_users_runs_become_one_page_that_needs_nothing_else(series_directory, tmp_path, tracking, cache, capsys):
    model, data = str(series_directory), f"toxicity={write_statements(tmp_path)}"
    given = ["--model", model, "--data", data, "--dimensions", "toxicity", "--seeds", "1", "--checkpoints", "last"]
    assert run_command(probe, given) == 0
    with mlflow.start_run(tags={"trusttrace.entry_point": "evaluate"}) as failed:
        mlflow.log_param("model", model)
        mlflow.log_figure(Figure(), "figures/never.png")
    mlflow.MlflowClient().set_terminated(failed.info.run_id, "FAILED")
    output = tmp_path / "page.html"
    assert run_command(main, ["--model", model, "--output", str(output)]) == 0
    content, printed = output.read_text(), capsys.readouterr().out
    assert f"{model}: probe on one page, " in printed
    following = f"calibrate --env-manager local -P model={model} -P dimensions=toxicity -P data={data} -P seeds=1"
    assert printed.endswith(f"next: mlflow run . -e {following}\n")
    checked = Checker(content)
    assert all(source.startswith("data:image/png;base64,") for source in checked.loads)
    assert len(checked.loads) == 4
    assert "<li>0 of 1 dimension can" in content or "<li>1 of 1 dimension can" in content
    assert "probe.csv" in content
    assert 'id="checkpoint"' in content and "are right from this checkpoint on" in content
    assert "Whether steering works" not in content
    (run,) = mlflow.search_runs(
        search_all_experiments=True, filter_string="tags.`trusttrace.entry_point` = 'report'", output_format="list"
    )
    assert mlflow.artifacts.load_text(f"runs:/{run.info.run_id}/report.html") == content


def test_a_mistyped_model_is_told_the_nearest(tracking, capsys):
    with mlflow.start_run(tags={"trusttrace.entry_point": "probe"}):
        mlflow.log_param("model", "smollm2")
    assert run_command(main, ["--model", "smolm2"]) == 2
    told = capsys.readouterr().err
    assert "did you mean smollm2? it has runs of smollm2; start with mlflow run . -e report " in told
    assert told.rstrip().endswith("-P model=smollm2")


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        ("nobody", "MLflow has no finished run of nobody"),
        ("./no/where", "there is no file or directory"),
        ("o'brien", "holds a quote"),
    ],
)
def test_a_model_without_runs_is_one_sentence(tracking, model, sentence, capsys):
    with mlflow.start_run(tags={"trusttrace.entry_point": "probe"}):
        mlflow.log_param("model", "/runs/mine")
    assert run_command(main, ["--model", model]) == 2
    told = capsys.readouterr().err
    assert sentence in told
    assert ("it has runs of /runs/mine; unknown model 'nobody'; known: smollm2, tiny," in told) == (model == "nobody")
