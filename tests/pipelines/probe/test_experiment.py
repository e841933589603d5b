"""The main job as a user runs it, on a tiny series and a real tracking store."""

import json
import os
import shutil
import signal
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import load_file, save_file

from pipelines.cli.command import run_command
from pipelines.experiment import resolve_series
from pipelines.information.__main__ import main as information
from pipelines.probe import experiment
from pipelines.probe.__main__ import main
from pipelines.probe.result import ResultStore
from pipelines.statements.sources import load_statements
from pipelines.tracking.champions import named_vectors
from registry.checkpoint_store import CheckpointStore
from registry.dimensions import TOXICITY
from registry.errors import Mismatch, NotFound
from registry.store import VectorStore
from tests.conftest import new_store, tiny_llama, use_store
from tests.forked import run_forked
from tests.pipelines.described import described_picture
from tests.pipelines.pasted import next_parameters
from tests.small_statements import write_two_dimensions


@pytest.fixture
def data(tmp_path):
    return write_two_dimensions(tmp_path / "data")


@dataclass(frozen=True)
class FinishedRun:
    """A run over all checkpoints, in a store of its own that several tests read."""

    root: Path
    arguments: list[str]
    printed: str

    @property
    def data(self) -> Path:
        return self.root / "data"


@pytest.fixture(scope="module")
def finished_run(series_directory, empty_database, tmp_path_factory):
    root = tmp_path_factory.mktemp("finished")
    data = write_two_dimensions(root / "data")
    given = ["--model", str(series_directory), "--data", str(data), "--dimensions", "toxicity,privacy", "--seeds", "2"]
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(StringIO()) as printed:
        new_store(empty_database, root, patch)
        patch.setenv("TRUSTTRACE_CACHE", str(root / "cache"))
        assert run_command(main, given) == 0
    return FinishedRun(root, given, printed.getvalue())


@pytest.fixture
def finished(finished_run, monkeypatch):
    """The finished run, in whose store the test is."""
    use_store(finished_run.root, monkeypatch)
    monkeypatch.setenv("TRUSTTRACE_CACHE", str(finished_run.root / "cache"))
    return finished_run


@pytest.fixture
def arguments(series_directory, data, tracking, cache):
    return ["--model", str(series_directory), "--data", str(data), "--dimensions", "toxicity,privacy", "--seeds", "2"]


@pytest.fixture
def measured(finished_run, cache):
    """The units of the finished run, in the test's own cache: a test of what is made of them measures none."""
    shutil.copytree(finished_run.root / "cache", cache, dirs_exist_ok=True)


def runs(condition=""):
    (experiment,) = [experiment for experiment in mlflow.search_experiments() if experiment.name == "trusttrace"]
    return mlflow.MlflowClient().search_runs([experiment.experiment_id], condition)


def parents():
    return [run for run in runs() if "mlflow.parentRunId" not in run.data.tags]


@pytest.mark.draws
def test_a_sweep_leaves_runs_curves_tables_figures_and_vectors(measured, arguments, capsys):
    assert run_command(main, [*arguments, "--figures", "paper", "--device", "cpu"]) == 0
    (parent,) = parents()
    assert parent.info.status == "FINISHED"
    children = runs(f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
    assert len(children) == 4 * 2
    client = mlflow.MlflowClient()
    curve = client.get_metric_history(parent.info.run_id, "toxicity/accuracy")
    assert sorted(point.step for point in curve) == [0, 10, 100]
    profile = client.get_metric_history(children[0].info.run_id, "layer/accuracy")
    assert sorted(point.step for point in profile) == [0, 1, 2]
    files = {artifact.path for artifact in client.list_artifacts(parent.info.run_id)}
    assert {"probe.csv", "probe.md", "probe.tex", "controls.csv", "ladder.csv", "figures"} <= files
    figures = {Path(artifact.path).stem for artifact in client.list_artifacts(parent.info.run_id, "figures")}
    paper = [Path(artifact.path).name for artifact in client.list_artifacts(parent.info.run_id, "figures/paper")]
    assert sorted(paper) == sorted(f"{name}.{kind}" for name in figures - {"paper"} for kind in ("pdf", "svg"))
    assert figures == {"paper"} | {"all_dimensions"} | {
        f"{name}_{kind}" for name in ("toxicity", "privacy") for kind in ("heat_map", "curve", "profile")
    }
    assert described_picture(parent.info.run_id).name == "all_dimensions.png"
    table = pd.read_csv(client.download_artifacts(parent.info.run_id, "probe.csv"))
    assert len(table) == 4 * 2 * 3 * 2 + 3 * 2 + 2  # the last are what the choices are worth
    ladder = pd.read_csv(client.download_artifacts(parent.info.run_id, "ladder.csv"))
    assert list(ladder["dimension"]) == ["toxicity"] * 4 + ["privacy"] * 4
    chosen = table[table["selected"].fillna("").str.startswith("checkpoint and layer")]
    assert ladder["value"].tolist()[::4] == pytest.approx(chosen["accuracy"].tolist())
    # Every statement has one of the two words that tell its label.
    assert (ladder["n"].tolist()[1::4], set(ladder["stands"].tolist()[1::4])) == ([0, 0], {"cannot be told"})
    assert ladder["detail"].tolist()[2:4] == [
        "the source tells no frames", "none is named by `ladder`, such as ladder=toxicity=./other.csv"
    ]  # fmt: skip
    printed = capsys.readouterr().out
    assert "no shared contrast words cannot be told, too few: 0 of " in printed
    assert "models:/steer.mini.toxicity/" in printed
    assert "make ui" in printed
    shared = {"model": arguments[1], "data": arguments[3], "dimensions": "toxicity,privacy"}
    assert next_parameters(printed, "calibrate") == shared | {"seeds": "2", "device": "cpu", "figures": "paper"}
    for child in children:
        by_layer = [
            {point.step: point.value for point in client.get_metric_history(child.info.run_id, f"layer/{name}")}
            for name in ("accuracy", "accuracy_low", "accuracy_high")
        ]
        described = child.data.tags["mlflow.note.content"]
        for layer in (0, 2):
            assert "{:.3f} [{:.3f}, {:.3f}] at layer".format(*(values[layer] for values in by_layer)) in described
        assert f"](#/experiments/{parent.info.experiment_id}/runs/{parent.info.run_id}" in described


def test_lineage_leads_to_checkpoint_run_and_statements(finished):
    champion = VectorStore().resolve("steer.mini.toxicity@champion")
    assert "highest validation accuracy" in champion.tags["champion_because"]
    client = mlflow.MlflowClient()
    name, version = champion.tags["checkpoint"].removeprefix("models:/").split("/")
    checkpoint = client.get_model_version(name, version)
    assert checkpoint.tags["weights_digest"] == champion.tags["weights_digest"]
    assert checkpoint.tags["step"] == champion.tags["checkpoint_step"]
    run = client.get_run(champion.run_id)
    assert run.data.tags["unit_digest"] == champion.tags["unit_digest"]
    assert run.inputs.dataset_inputs[0].dataset.digest == champion.tags["statements_digest"][:32]
    assert champion.tags["statements_digest"] == load_statements(TOXICITY, str(finished.data)).digest
    vector = VectorStore().load(champion, d_model=16)
    assert vector.layer >= 1  # of three layers, the deeper half
    assert vector.lineage.model == "mini"


def test_a_second_run_computes_and_registers_nothing_anew(finished, monkeypatch):
    monkeypatch.setattr("pipelines.probe.plan.measure", None)
    before = [vector.uri for vector in VectorStore().list("mini")]
    assert len(before) == 6  # two dimensions at three checkpoints; nothing from random weights
    assert run_command(main, finished.arguments) == 0
    assert [vector.uri for vector in VectorStore().list("mini")] == before
    assert [run.info.status for run in parents()] == ["FINISHED", "FINISHED"]


def test_statements_that_words_alone_decide_leave_no_champion(measured, arguments, data, capsys):
    rows = [
        f"{city} is {word},{label}" for city in "abcdefghijklmnopqrst" for word, label in (("kind", 1), ("cruel", 0))
    ]
    (data / "toxicity.csv").write_text("\n".join(["statement,label", *rows]))
    assert run_command(main, [*arguments, "--checkpoints", "last"]) == 0
    assert "no champion for toxicity: the text of its statements alone decides" in capsys.readouterr().out
    assert VectorStore().list("mini", "toxicity")
    with pytest.raises(NotFound):
        VectorStore().resolve("steer.mini.toxicity@champion")
    assert VectorStore().resolve("steer.mini.privacy@champion")


def test_equal_weights_are_champion_once(measured, series_directory, data, tracking, tmp_path, capsys):
    series = shutil.copytree(series_directory, tmp_path / "twins" / "mini")
    shutil.copytree(series / "step_000100", series / "step_000200")
    given = ["--model", str(series), "--data", str(data), "--dimensions", "toxicity", "--seeds", "2"]
    assert run_command(main, [*given, "--checkpoints", "100,200"]) == 0
    assert {vector.checkpoint_step for vector in VectorStore().list("mini")} == {100, 200}
    champion = VectorStore().resolve("steer.mini.toxicity@champion")
    assert champion.checkpoint_step == 100
    assert "highest validation accuracy of 1 checkpoint in" in champion.tags["champion_because"]
    assert "step 100 and step 200 have equal weights" in capsys.readouterr().out


def test_vectors_of_the_papers_protocol_are_never_judged(arguments, capsys):
    assert run_command(main, [*arguments, "--protocol", "paper", "--checkpoints", "last"]) == 0
    printed = capsys.readouterr().out
    assert "no champion: protocol=paper chooses layers on the rows it tests; use protocol=sound" in printed
    assert "chosen on the test rows, as in arXiv 2402.19465" in printed
    (vector,) = VectorStore().list("mini", "toxicity")
    assert (vector.tags["protocol"], vector.aliases) == ("paper", ())
    with pytest.raises(Mismatch, match=r"protocol=paper on the first 80%.* -P 'data=<path of \w+.csv>'"):
        named_vectors([vector.uri])


def test_the_fitting_split_is_part_of_a_lineage(finished):
    champion = VectorStore().resolve("steer.mini.toxicity@champion")
    assert champion.tags["protocol"] == "sound"
    assert champion.tags["split"] == "all but fold 0 of 5 folds of whole groups, seed 0"
    assert VectorStore().load(champion).lineage.protocol == "sound"


def test_all_layers_or_none_can_be_registered(measured, arguments):
    run_command(main, [*arguments, "--checkpoints", "last", "--register", "none"])
    assert VectorStore().list("mini") == []
    run_command(main, [*arguments, "--checkpoints", "last", "--register", "all"])
    assert sorted(vector.layer for vector in VectorStore().list("mini", "toxicity")) == [0, 1, 2]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["--dimensions", "toxcity"], "did you mean 'toxicity'"),
        (["--checkpoints", "7"], "unknown checkpoint of mini '7'; known: all, first, last, log:N, 0, 10, 100"),
        (["--checkpoints", "init"], "selects no trained one"),
        (["--layers", "9"], "layer 9 does not exist: mini has 3 layers"),
        (["--register", "some"], "known: best, all, none"),
        (["--dimensions", "fairness"], "fairness.csv or stereoset.csv would serve"),
        (["--model", "smollm3"], "did you mean 'smollm2'"),
        (["--protocol", "fair"], "sound, paper"),
        (["--limit", "-1"], "`limit` is -1; give a number of statements"),
        (["--delete-after-use", "maybe"], "known: true, false"),
    ],
)
def test_a_mistake_is_one_sentence_and_an_exit_code(arguments, changes, words, capsys):
    assert run_command(main, [*arguments, *changes]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert "Traceback" not in error
    assert all(run.info.status == "FAILED" for run in parents())


def test_a_failed_sweep_keeps_finished_units(arguments, monkeypatch, capsys):
    from pipelines.probe import plan as sweep_run

    measured = sweep_run.measure
    calls = []

    def fail_at_the_fourth(*given, **how):
        calls.append(1)
        if len(calls) == 4:
            raise OSError(28, "No space left on device", "somewhere")
        return measured(*given, **how)

    monkeypatch.setattr(sweep_run, "measure", fail_at_the_fourth)
    assert run_command(main, arguments) == 2
    assert "the disk is full" in capsys.readouterr().err
    (parent,) = parents()
    assert parent.info.status == "FAILED"
    assert "No space left" in parent.data.tags["trusttrace.error"]
    monkeypatch.undo()


def test_a_store_lost_within_a_sweep_is_named(arguments, tracking, monkeypatch, capsys):
    def refuse(*_given):
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        mlflow.set_tracking_uri("http://127.0.0.1:9")
        return mlflow.MlflowClient().search_experiments()

    with monkeypatch.context() as patch:
        patch.setattr("pipelines.tracking.units.dataset_of", refuse)
        assert run_command(main, arguments) == 2
    mlflow.set_tracking_uri(tracking)
    assert "does not answer" in capsys.readouterr().err


def test_killed_without_warning_it_resumes_and_registers_nothing_twice(arguments, tracking, cache, monkeypatch):
    add, added = experiment.UnitLog.add, []

    def add_five(*given):
        result = add(*given)
        added.append(result)
        if len(added) == 5:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    with monkeypatch.context() as patch:
        patch.setattr(experiment.UnitLog, "add", add_five)
        killed = run_forked(lambda: main(arguments))
    assert killed.returncode == -signal.SIGKILL, killed.output
    before = {vector.uri for vector in VectorStore().list("mini")}
    assert len(before) == 3  # of five units, two were random initialisations
    assert run_command(main, arguments) == 0
    after = VectorStore().list("mini")
    assert before < {vector.uri for vector in after}
    assert len(after) == 6
    assert len({(vector.name, vector.tags["unit_digest"]) for vector in after}) == 6


def test_equal_states_are_at_chance_and_the_sweep_goes_on(series_directory, data, tracking, cache, tmp_path, capsys):
    series = shutil.copytree(series_directory, tmp_path / "zeros" / "mini")
    weights = series / "step_000000" / "model.safetensors"
    tensors = load_file(weights)
    for name in tensors:
        if "o_proj" in name or "down_proj" in name:
            tensors[name].zero_()
    save_file(tensors, weights, metadata={"format": "pt"})
    for path in data.glob("*.csv"):
        table = pd.read_csv(path)
        table.assign(statement=table["statement"] + " .").to_csv(path, index=False)
    given = ["--model", str(series), "--data", str(data), "--dimensions", "toxicity"]
    assert run_command(main, [*given, "--seeds", "1", "--register", "all"]) == 0
    printed = capsys.readouterr().out
    assert "step 0: the class means of toxicity coincide at layers 0, 1, 2" in printed
    assert "step 10: the class means" not in printed
    (parent,) = parents()
    table = pd.read_csv(mlflow.MlflowClient().download_artifacts(parent.info.run_id, "probe.csv"))
    assert set(table[table["step"] == 0]["accuracy"]) == {0.5}
    steps = {vector.checkpoint_step for vector in VectorStore().list("mini", "toxicity")}
    assert steps == {10, 100}
    few = ["--checkpoints", "0,100", "--landmarks", "0", "--calibrate", "false"]
    assert run_command(information, [*given, *few]) == 0


def test_the_champions_reason_says_what_the_choice_is_worth(finished):
    parent = parents()[0]
    table = pd.read_csv(mlflow.MlflowClient().download_artifacts(parent.info.run_id, "probe.csv"))
    chosen = table[table["selected"].fillna("").str.startswith("checkpoint and layer chosen on an inner fold")]
    worth = chosen.set_index("dimension")["accuracy"]["toxicity"]
    champion = VectorStore().resolve("steer.mini.toxicity@champion")
    assert f"without part in the choice {worth:.3f} [" in champion.tags["champion_because"]
    assert "accuracy: checkpoint and layer chosen on an inner fold of each outer fold" in finished.printed
    assert f"{worth:.3f} [" in finished.printed


def test_two_series_of_one_name_do_not_share_entries(measured, series_directory, data, tracking, tmp_path, capsys):
    other = tmp_path / "other" / "mini"
    for seed, step in ((7, 0), (8, 10)):
        shutil.copytree(series_directory / "step_000000", other / f"step_{step:06d}")
        tiny_llama(seed).save_pretrained(other / f"step_{step:06d}")
    given = ["--data", str(data), "--dimensions", "toxicity", "--seeds", "2", "--checkpoints", "last"]
    assert run_command(main, ["--model", str(series_directory), *given]) == 0
    assert run_command(main, ["--model", str(other), *given]) == 2
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert f"ckpt.mini holds checkpoints of {series_directory}" in message
    assert f"-P model=other-mini={other}" in message
    assert run_command(main, ["--model", f"other-mini={other}", *given]) == 0
    assert VectorStore().list("other-mini")
    moved = shutil.copytree(series_directory, tmp_path / "moved" / "mini")
    assert run_command(main, ["--model", str(moved), *given]) == 0


def test_a_line_of_repositories_is_probed_as_one_series(
    series_directory, data, tracking, cache, tmp_path, word_tokenizer, capsys
):
    shutil.copytree(series_directory, tmp_path / "mini")
    tiny_llama(5).save_pretrained(tmp_path / "answers")
    word_tokenizer.save_pretrained(tmp_path / "answers")
    stages = '[[stages]]\nname = "base"\nmodel = "mini"\n[[stages]]\nname = "sft"\nmodel = "answers"\n'
    (tmp_path / "line.toml").write_text(stages)
    given = ["--model", "@line.toml", "--data", str(data), "--dimensions", "toxicity"]
    assert run_command(main, [*given, "--seeds", "1"]) == 0
    printed = capsys.readouterr().out
    assert "left out: base: 2 of 3 checkpoints" in printed
    (parent,) = parents()
    table = pd.read_csv(mlflow.MlflowClient().download_artifacts(parent.info.run_id, "probe.csv"))
    assert list(dict.fromkeys(table["revision"])) == ["init", "step_000100", "main"]
    champion = VectorStore().resolve("steer.line.toxicity@champion")
    assert champion.tags["model"] == "line"
    places = [version.checkpoint.order for version in CheckpointStore().list("line")]
    assert len(set(places)) == 3
    (latest,) = [each for each in CheckpointStore().list("line") if each.checkpoint.label == "sft"]
    assert latest.checkpoint == resolve_series("@line.toml").select("sft")[0]
    assert run_command(information, [*given, "--landmarks", "0", "--calibrate", "false"]) == 0
    (tmp_path / "line.toml").unlink()
    assert run_command(main, given) == 2
    assert "there is no file 'line.toml'" in capsys.readouterr().err


def without_saturation(path):
    """A stored result as versions that measured accuracy alone wrote it."""
    with safe_open(path, framework="numpy") as file:
        result = json.loads(file.metadata()["result"])
        tensors = {name: file.get_tensor(name) for name in file.keys() if name != "distances"}  # noqa: SIM118
    result.pop("distances")
    for score in result["scores"]:
        score.pop("saturation")
    save_arrays(tensors, path, metadata={"result": json.dumps(result)})


def test_results_of_former_versions_are_read_with_empty_cells(measured, arguments, capsys):
    given = [*arguments, "--checkpoints", "last"]
    run_command(main, given)
    assert "stored without margin" not in capsys.readouterr().out
    stored = sorted(ResultStore().directory.glob("*.safetensors"))
    before = [ResultStore().find(path.stem).seconds for path in stored]
    for path in stored:
        without_saturation(path)
    assert run_command(main, given) == 0
    assert "fragility and TPR at 1 % FPR, which stay empty: 2 of 2 units" in capsys.readouterr().out
    assert [ResultStore().find(path.stem).seconds for path in stored] == before
    newest, older = (
        pd.read_csv(mlflow.MlflowClient().download_artifacts(run.info.run_id, "probe.csv")) for run in parents()[:2]
    )
    measures = ["margin", "fragility", "tpr_at_1_fpr"]
    assert newest[measures].isna().all(axis=None)
    assert older["margin"].notna().all()
    assert set(older["tpr_at_1_fpr"]) == {"cannot be told"}  # of some 30 statements
    pd.testing.assert_frame_equal(newest.loc[:, :"random_init_high"], older.loc[:, :"random_init_high"])
