"""Comparison of two series as a user runs it, on tiny networks and a real tracking store."""

import re
import shlex
import shutil
from dataclasses import replace
from types import SimpleNamespace

import mlflow
import pandas as pd
import pytest
from matplotlib.collections import LineCollection

from pipelines.cli.command import run_command
from pipelines.compare.__main__ import main
from pipelines.compare.comparison import compare
from pipelines.compare.figures import comparison_figure
from pipelines.compare.series import ProbedSeries, probe_command, read_curves, require_comparable
from pipelines.compare.tracking import probed_series
from pipelines.estimators.estimate import Estimate
from pipelines.figures.paper import COLUMN, set_for_paper
from pipelines.probe.__main__ import main as probe
from pipelines.probe.tables import CONTROL_COLUMNS, PROBE_COLUMNS
from registry.errors import InvalidInput
from tests.conftest import new_store, tiny_llama
from tests.pipelines.described import described_picture
from tests.pipelines.figures.fitting import cut_texts, overlapping_titles
from tests.small_statements import write_statements


@pytest.fixture(scope="module")
def store(empty_database, series_directory, tmp_path_factory):
    """A tracking store with finished probing runs of two series; yields what a further probing run is given."""
    root = tmp_path_factory.mktemp("compare")
    other = shutil.copytree(series_directory, root / "other")
    for seed, step in ((3, 0), (4, 10), (5, 100)):
        tiny_llama(seed).save_pretrained(other / f"step_{step:06d}")
    shutil.copytree(other, root / "third")
    for seed, step in ((6, 0), (7, 10), (8, 100)):
        tiny_llama(seed).save_pretrained(root / "third" / f"step_{step:06d}")
    with pytest.MonkeyPatch.context() as patch:
        new_store(empty_database, root, patch)
        patch.setenv("TRUSTTRACE_CACHE", str(root / "cache"))
        shutil.copytree(series_directory, root / "mini")
        write_statements(root / "data", openings=20)
        write_statements(root / "fewer", openings=14)
        write_statements(root / "privacy", "privacy", openings=20)
        for directory in ("mini", "other"):
            probed(directory)
        yield root


def probed(model, *changes):
    """Probe a series of the store; returns the name to compare it by."""
    given = ["--data", "data/toxicity.csv", "--seeds", "1", "--register", "none", *changes]
    assert run_command(probe, ["--model", model, *given]) == 0
    return model


def newest(entry_point, model=None):
    condition = f"tags.`trusttrace.entry_point` = '{entry_point}'"
    condition += "" if model is None else f" and params.model = '{model}'"
    return mlflow.search_runs(search_all_experiments=True, filter_string=condition, output_format="list")[0]


def tables_of(run):
    return [
        pd.read_csv(mlflow.artifacts.download_artifacts(f"runs:/{run.info.run_id}/{name}.csv"))
        for name in ("compare", "onsets")
    ]


def refusal(models, capsys):
    capsys.readouterr()
    assert run_command(main, ["--models", ",".join(models)]) == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    return error.strip().splitlines()[-1]


def pasted(sentence):
    """The arguments of the probe command at the end of a refusal."""
    _, _, command = sentence.rpartition("mlflow run . -e probe --env-manager local ")
    pairs = [part.split("=", 1) for part in shlex.split(command) if part != "-P"]
    return [part for name, value in pairs for part in (f"--{name.replace('_', '-')}", value)]


@pytest.mark.draws
def test_two_series_become_tables_and_a_figure(store, capsys):
    assert run_command(main, ["--models", "mini,other"]) == 0
    printed = capsys.readouterr().out
    run = newest("compare")
    figures = {artifact.path for artifact in mlflow.MlflowClient().list_artifacts(run.info.run_id, "figures")}
    assert "figures/toxicity_comparison.png" in figures
    assert described_picture(run.info.run_id).name == "toxicity_comparison.png"
    compared, onsets = tables_of(run)
    assert set(compared["model"]) == {"mini", "other", "mean of series"}
    own = compared[compared["model"] != "mean of series"]
    assert list(own["step"]) == [0, 10, 100] * 2
    means = compared[compared["model"] == "mean of series"]
    assert list(means["interval_over"]) == ["series", "statements"] * 3
    at_last = own[own["step"] == 100]
    by_interval = means[means["step"] == 100].set_index("interval_over")
    over_series, over_statements = by_interval.loc["series"], by_interval.loc["statements"]
    assert over_series["n"] == 2
    assert over_series["accuracy"] == pytest.approx(at_last["accuracy"].mean())
    assert over_statements["accuracy_low"] == pytest.approx(at_last["accuracy_low"].mean())
    assert over_statements["n"] == at_last["n"].iloc[0] > 2
    assert list(onsets["model"]) == ["mini", "other", "median of series"]
    assert onsets["confidence"].iloc[-1] == 0.5
    assert set(onsets["lasts"].dropna()) <= {"yes", "no", "not shown"}
    assert onsets["lost_step"].notna().tolist() == (onsets["lasts"] == "no").tolist()
    assert "toxicity" in printed


def test_accuracies_are_those_of_the_probing_run_named(store):
    run_id = newest("probe").info.run_id
    assert run_command(main, ["--models", f"mini,{run_id}"]) == 0
    compared, _ = tables_of(newest("compare"))
    own = compared[compared["run_id"] == run_id]
    probed_table = pd.read_csv(mlflow.artifacts.download_artifacts(f"runs:/{run_id}/probe.csv"))
    chosen = probed_table[probed_table["selected"].fillna("").str.startswith("layer ")]
    assert list(own["accuracy"]) == list(chosen["accuracy"])


def test_one_series_is_refused(store, capsys):
    assert run_command(main, ["--models", "tiny:1"]) == 2
    assert "`models` names tiny:1, and two or more series are compared" in capsys.readouterr().err


def test_an_unknown_run_is_refused(store, capsys):
    assert f"MLflow has no run {'0' * 32}" in refusal(["mini", "0" * 32], capsys)


def test_a_series_named_twice_is_refused(store, capsys):
    run_id = newest("probe", "mini").info.run_id
    assert f"`models` names mini twice: both are the run {run_id}; leave one out" in refusal(["mini", "mini"], capsys)
    sentence = refusal([run_id, "mini"], capsys)
    assert f"`models` names mini twice ({run_id} and mini): both are the run {run_id}" in sentence


def test_two_runs_of_one_series_are_refused(store, capsys):
    runs = newest("probe", "other").info.run_id, newest("probe", probed("./other")).info.run_id
    assert (
        f"`models` names other twice ({runs[0]} and ./other): the runs {runs[0]} and {runs[1]} are of one series"
        in (refusal([runs[0], "./other"], capsys))
    )


def test_two_series_of_one_name_are_told_apart(store):
    """As two commits of a model on the hub are."""
    first, second = probed_series(["mini", probed("apart=third", "--checkpoints", "last")])
    with pytest.raises(InvalidInput, match="apart=third .* are two series that are both called mini") as refused:
        require_comparable([first, replace(second, name="mini")])
    given = pasted(str(refused.value))
    assert given[:2] == ["--model", "mini-2=third"]
    assert run_command(probe, [*given, "--checkpoints", "last", "--register", "none"]) == 0
    require_comparable(probed_series(["mini", "mini-2=third"]))


def test_two_trainings_of_an_embedded_series_are_one():
    first, second = (
        ProbedSeries("tiny", f"{n}" * 32, "tiny", f"{n}" * 32, 0, {}, {}, frozenset({f"{n}"}), {}, ()) for n in "12"
    )
    with pytest.raises(InvalidInput, match=f"the runs {first.run_id} and {second.run_id} are of one series; leave"):
        require_comparable([first, second])


def test_equal_weights_under_two_names_are_refused(store, capsys):
    assert "mini and copy have the same weights" in refusal(["mini", probed("copy=mini")], capsys)


def test_a_model_without_a_finished_run_is_refused(store, capsys):
    sentence = refusal(["mini", "third"], capsys)
    assert "MLflow has no finished probe run of third; probe it first: " in sentence
    assert run_command(probe, [*pasted(sentence), "--checkpoints", "last"]) == 0
    assert run_command(main, ["--models", "mini,third"]) == 0
    run_id = newest("probe").info.run_id
    mlflow.MlflowClient().set_terminated(run_id, "FAILED")
    assert "MLflow has no finished probe run of third" in refusal(["mini", "third"], capsys)
    assert "is of probe and FAILED; give the id of a finished run" in refusal(["mini", run_id], capsys)


def test_other_statements_are_refused(store, capsys):
    fewer = probed("fewer=third", "--checkpoints", "last", "--data", "fewer/toxicity.csv")
    sentence = refusal(["mini", fewer], capsys)
    assert "mini and fewer were probed on different statements of toxicity" in sentence
    assert pasted(sentence)[:4] == ["--model", "mini", "--data", "fewer/toxicity.csv"]


def test_another_protocol_is_refused(store, capsys):
    paper = probed("paper=third", "--checkpoints", "last", "--protocol", "paper")
    sentence = refusal(["mini", paper], capsys)
    assert "`protocol` is sound in the run of mini and paper in that of paper" in sentence
    assert run_command(probe, [*pasted(sentence), "--checkpoints", "last"]) == 0
    assert run_command(main, ["--models", f"mini,{paper}"]) == 0


def test_no_shared_dimension_is_refused(store, capsys):
    private = probed("private=third", "--checkpoints", "last", "--data", "privacy/privacy.csv")
    sentence = refusal(["mini", private], capsys)
    assert "no dimension was probed in all runs (mini: toxicity; private: privacy)" in sentence
    assert pasted(sentence)[:4] == ["--model", "private=third", "--data", "data/toxicity.csv"]


def test_a_run_of_an_older_version_is_refused(store, tmp_path, capsys):
    older = probed("older=third", "--checkpoints", "last")
    run_id = newest("probe").info.run_id
    path = mlflow.artifacts.download_artifacts(f"runs:/{run_id}/probe.csv", dst_path=str(tmp_path))
    pd.read_csv(path).drop(columns="selected").to_csv(path, index=False)
    mlflow.MlflowClient().log_artifact(run_id, path)
    assert "which older versions did not log; probe it again: mlflow run" in refusal(["mini", older], capsys)


def test_a_command_repeats_what_decides_and_quotes_it():
    command = probe_command("tiny:1", {"data": "my file.csv", "seeds": "3", "executor": "ray", "device": "cpu"})
    assert command == "mlflow run . -e probe --env-manager local -P model=tiny:1 -P 'data=my file.csv' -P device=cpu"


def audited(**rows):
    empty = {"stage": None, "ingredient": None, "twin_of": None, "left_out": None}
    return pd.DataFrame([{"revision": revision, **empty, **row} for revision, row in rows.items()])


def curve_of(audit, steps):
    lacking = ("random_init_low", "random_init_high", "stage", "ingredient")  # of older runs
    columns = [name for name in PROBE_COLUMNS if name not in lacking]
    rows = [
        dict.fromkeys(columns, 0) | {"revision": revision, "step": step, "accuracy": 0.5 + step / 100,
        "accuracy_low": 0.4, "accuracy_high": 0.9, "n_test": 50, "random_init": 0.5, "dimension": "toxicity",
        "selected": "layer chosen"}
        for revision, step in steps.items()
    ]  # fmt: skip
    control = dict.fromkeys(CONTROL_COLUMNS) | {
        "dimension": "toxicity", "control": "random_init", "accuracy": 0.52, "accuracy_low": 0.4, "accuracy_high": 0.6
    }  # fmt: skip
    curves, left_out = read_curves(pd.DataFrame(rows), pd.DataFrame([control]), audit)
    return curves["toxicity"], left_out


def test_twins_and_later_stages_are_no_points():
    steps = {"a": 1, "b": 2, "c": 3, "d": 4, "main": 4}
    audit = audited(
        a={"stage": "stage1"}, b={"stage": "stage1", "twin_of": "a"}, c={"stage": "stage1"}, d={"stage": "stage2"},
        main={"stage": "main"},
    )  # fmt: skip
    curve, left_out = curve_of(audit, steps)
    assert curve.steps == (1, 3)
    assert left_out == (
        "b: it has the weights of a",
        "d: it is of another stage than the first",
        "main: it is of another stage than the first",
    )


def test_a_disputed_step_is_no_point():
    audit = audited(a={"disputed": True}, b={"disputed": False}, c={"disputed": True, "twin_of": "a"})
    curve, left_out = curve_of(audit, {"a": 1, "b": 2, "c": 3})
    assert curve.steps == (2,)
    reason = "its weights come back after others, so that its step is not certain"
    assert left_out == (f"a: {reason}", f"c: {reason}")


def test_stages_of_one_revision_are_told_apart():
    """A line of several repositories, each of them at ``main``."""
    rows = [
        dict.fromkeys(PROBE_COLUMNS, 0) | {"revision": "main", "stage": stage, "ingredient": None, "step": 0,
        "accuracy": accuracy, "accuracy_low": 0.4, "accuracy_high": 0.95, "n_test": 50, "random_init": 0.5,
        "dimension": "toxicity", "selected": "layer chosen"}
        for stage, accuracy in (("base", 0.6), ("sft", 0.9))
    ]  # fmt: skip
    control = {"control": "random_init", "seed": None, "dimension": "toxicity"}
    audit = pd.concat([audited(main={"stage": stage}) for stage in ("base", "sft")])
    curves, left_out = read_curves(pd.DataFrame(rows), pd.DataFrame([control]), audit)
    assert [estimate.value for estimate in curves["toxicity"].accuracies] == [0.6]
    assert left_out == ("sft main: it is of another stage than the first",)


def test_a_model_above_its_checkpoints_ends_the_curve():
    curve, left_out = curve_of(audited(a={}, b={}, main={"stage": "main"}), {"a": 1, "b": 2, "main": 3})
    assert (curve.steps, left_out) == ((1, 2, 3), ())


def test_tokens_are_the_axis_where_all_series_agree():
    steps = {"step1-tokens1B": 1, "step2-tokens2B": 2}
    told, untold, other = (
        replace(curve_of(None, steps)[0], tokens=tokens) for tokens in ((10**9, 2 * 10**9), (), (10**9, 3 * 10**9))
    )
    for curves, name in (
        ((told, told), "tokens seen in pre-training"),
        ((told, untold), "pre-training step"),
        ((told, other), "pre-training step"),
    ):
        series = [SimpleNamespace(name=str(n), run_id="", curves={"toxicity": each}) for n, each in enumerate(curves)]
        top, below = comparison_figure(compare("toxicity", series)).axes
        assert below.get_xlabel() == name
        assert list(top.get_lines()[-1].get_xdata()) == [0, 1]  # of the whole axis
        assert list(top.get_lines()[1].get_xdata()) == ([10**9, 2 * 10**9] if "tokens" in name else [1, 2])


def test_series_without_a_shared_step_have_no_mean():
    curves = [curve_of(None, steps)[0] for steps in ({"a": 1, "b": 2}, {"a": 4, "b": 8})]
    series = [SimpleNamespace(name=str(n), run_id="", curves={"toxicity": each}) for n, each in enumerate(curves)]
    figure = comparison_figure(compare("toxicity", series))
    drawn = [text.get_text() for text in figure.legends[0].get_texts()]
    assert drawn[:2] == ["0", "1"] and not [name for name in drawn if "mean" in name or "interval" in name]


def test_equal_accuracies_of_all_series_leave_a_band():
    curve, _ = curve_of(None, {"a": 1, "b": 2})
    series = [SimpleNamespace(name=name, run_id="", curves={"toxicity": curve}) for name in "abc"]
    (first, _) = compare("toxicity", series).bands
    assert first.between_series.value == pytest.approx(curve.accuracies[0].value)
    half = 4.3027 / 50 / (12 * 3) ** 0.5  # Student's quantile of three series, accuracies told to 1/50
    assert first.between_series.low == pytest.approx(first.between_series.value - half, abs=1e-6)
    assert first.between_series.high == pytest.approx(first.between_series.value + half, abs=1e-6)


def test_the_control_has_the_interval_of_the_probing_run(store):
    run_id = newest("probe", "mini").info.run_id
    table = pd.read_csv(mlflow.artifacts.download_artifacts(f"runs:/{run_id}/probe.csv"))
    assert (table["random_init_low"] < table["random_init"]).all()
    assert (table["random_init"] < table["random_init_high"]).all()
    controls = pd.read_csv(mlflow.artifacts.download_artifacts(f"runs:/{run_id}/controls.csv"))
    of_seed = controls[(controls["control"] == "random_init") & (controls["seed"] == 0)].set_index("layer")
    row = table[table["seed"] == 0].iloc[0]
    assert row["random_init_low"] == of_seed.loc[row["layer"], "accuracy_low"]
    curves, _ = read_curves(table, controls.assign(accuracy_low=0.0), None)
    chosen = table[table["selected"].fillna("").str.startswith("layer ")].iloc[0]
    assert curves["toxicity"].random_init.low == chosen["random_init_low"]


def test_runs_without_an_audit_are_read():
    curve, left_out = curve_of(None, {"a": 1, "b": 2})
    assert (curve.steps, left_out) == ((1, 2), ())
    assert curve.random_init == Estimate(0.5, pytest.approx(0.38), pytest.approx(0.58), 50)
    assert curve.ngram_floor == 0


def test_the_help_names_five_seeds(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    assert re.search(r"\[tiny:0,tiny:1,tiny:2,tiny:3,tiny:4\]", re.sub(r"\s+", "", capsys.readouterr().out))


LONG = "tells_a_user_that_it_does_not_know"


@pytest.mark.parametrize("n", [2, 8])
@pytest.mark.parametrize("steps", [{"a": 10}, {"a": 1, "b": 2, "c": 40}])
def test_a_comparison_fits_a_screen_and_a_column(n, steps):
    curve, _ = curve_of(None, steps)
    names = [f"polypythia-410m-deduped-data-seed{number}" for number in range(n)]
    series = [SimpleNamespace(name=name, run_id="", curves={LONG: curve}) for name in names]
    figure = comparison_figure(compare(LONG, series))
    assert cut_texts(figure) + overlapping_titles(figure) == []
    intervals = [lines for lines in figure.axes[0].collections if isinstance(lines, LineCollection)]
    assert len(intervals) == (2 if len(steps) == 1 else 0)  # a band over one step has no breadth
    set_for_paper(figure)
    assert figure.get_size_inches()[0] == COLUMN
    assert cut_texts(figure) == []
