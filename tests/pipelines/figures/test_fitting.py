"""Figures of one checkpoint and of a dimension with a long name: nothing is cut, and no title lies on another."""

import importlib

import pytest
from matplotlib.figure import Figure as Drawn

from pipelines.cli.command import run_command
from pipelines.figures.paper import set_for_paper
from pipelines.figures.style import NARROWEST, broken, width
from tests.pipelines.figures.fitting import cut_texts, overlapping_titles
from tests.small_statements import write_statements

LONG = "acknowledging_limits_of_knowledge"


@pytest.fixture
def long_name(tmp_path):
    """The file of a dimension of one's own that is named at length."""
    path = write_statements(tmp_path, openings=60).rename(tmp_path / f"{LONG}.csv")
    lines = (f'{name} = "what it is"\n' for name in ("meaning", "trustworthy", "untrustworthy"))
    (tmp_path / f"{LONG}.dimension.toml").write_text("".join(lines))
    return path


@pytest.mark.parametrize("command", ["probe", "information", "vectors"])
@pytest.mark.parametrize("checkpoints", ["last", "all"])
def test_words_of_figures_are_not_cut(
    command, checkpoints, long_name, series_directory, cache, tracking, monkeypatch, capsys
):
    figures = {}
    experiment = importlib.import_module(f"pipelines.{command}.experiment")
    monkeypatch.setattr(experiment, "log_figures", lambda drawn, *_, **__: figures.update(drawn))
    main = importlib.import_module(f"pipelines.{command}.__main__").main
    given = ["--model", str(series_directory), "--data", str(long_name), "--checkpoints", checkpoints]
    assert run_command(main, given) == 0
    assert figures
    wrong = {name: cut_texts(figure) + overlapping_titles(figure) for name, figure in figures.items()}
    assert {name: words for name, words in wrong.items() if words} == {}
    for figure in figures.values():
        set_for_paper(figure)
    wrong = {name: cut_texts(figure) + overlapping_titles(figure) for name, figure in figures.items()}
    assert {name: words for name, words in wrong.items() if words} == {}
    printed = capsys.readouterr().out.splitlines()
    headers = [line for line in printed if line.startswith("dimension ")]
    assert headers
    for line in headers:  # whose next column stands behind the name
        assert len(line) - len(line.removeprefix("dimension").lstrip()) > len(LONG)


def test_a_cut_word_and_overlapping_titles_are_seen():
    figure = Drawn(figsize=(3, 3), layout="constrained")
    left, right = figure.subplots(1, 2)
    for axes in (left, right):
        axes.set_title("a title that has no room here", loc="left")
    assert "a title that has no room here" in cut_texts(figure)
    assert overlapping_titles(figure)


def test_long_names_are_broken_and_narrow_figures_widened():
    assert broken("toxicity") == "toxicity"
    assert broken(LONG).split("\n") == ["acknowledging_", "limits_of_", "knowledge"]
    assert width(1, 0.62, 1.8) == NARROWEST


@pytest.mark.parametrize(("steps", "shaded", "words"), [(5, 0, "before it: warm-up"), (200, 1, "shaded: warm-up")])
def test_warm_up_is_shaded_where_a_checkpoint_lies_in_it(
    steps, shaded, words, long_name, series_directory, cache, tracking, monkeypatch
):
    figures = {}
    experiment = importlib.import_module("pipelines.information.experiment")
    monkeypatch.setattr(experiment, "log_figures", lambda drawn, *_, **__: figures.update(drawn))
    given = ["--model", str(series_directory), "--data", str(long_name), "--checkpoints", "last"]
    more = ["--warmup-steps", str(steps), "--calibrate", "false"]
    assert run_command(importlib.import_module("pipelines.information.__main__").main, [*given, *more]) == 0
    first = figures[f"{LONG}_curves"].axes[0]
    assert len(first.patches) == shaded and words in first.get_title(loc="left")
