"""What every experiment begins with: the series that a name stands for."""

import re
import shutil
from functools import partial

import mlflow
import pytest

from pipelines import experiment
from pipelines.cli.options import CheckpointOptions
from pipelines.pretrain.options import SeriesConfig, TrainingConfig
from pipelines.statements.options import StatementsOptions
from pipelines.statements.sources import load_statements
from pipelines.tracking.runs import entry_point_run
from pipelines.tracking.series import require_own_name
from registry.checkpoint_store import CheckpointStore
from registry.checkpoints import Checkpoint, CheckpointSeries
from registry.errors import InvalidInput, Mismatch, UnknownName
from serving.model.sources import find_series
from serving.model.weights import weights_digest
from tests.pipelines.pretrain.test_series import TEXT
from tests.small_statements import write_statements


@pytest.fixture
def small(tmp_path, cache, monkeypatch):
    """The embedded series, of a network and a corpus that train in a second."""
    (tmp_path / "corpus.txt").write_text(TEXT)
    training = TrainingConfig(
        d_model=32, n_layers=2, vocabulary=300, sequence_tokens=16, batch_sequences=4, steps=9, warmup_steps=5
    )
    config = partial(SeriesConfig, training=training, corpus=str(tmp_path / "corpus.txt"))
    monkeypatch.setattr(experiment, "SeriesConfig", config)


def test_each_seed_is_a_series_of_its_own_name(small):
    experiment.require_selectable("tiny", "first,8,step_000009")
    first, again, other = (experiment.resolve_series(model) for model in ("tiny", "tiny:0", "tiny:1"))
    assert (first.model, other.model) == ("tiny", "tiny-1")
    assert first == again
    assert experiment.resolve_series("tiny-1") == other
    assert weights_digest(first.checkpoints[-1]) != weights_digest(other.checkpoints[-1])


def test_who_trains_the_series_has_its_loss_below(small, tracking):
    with entry_point_run("probe tiny", {}) as run:
        experiment.resolve_series("tiny")
        experiment.resolve_series("tiny")
    runs = mlflow.search_runs(search_all_experiments=True, output_format="list")
    (below,) = (each for each in runs if each.info.run_id != run.info.run_id)
    assert (below.info.run_name, below.info.status) == ("pretrain tiny", "FINISHED")
    assert below.data.tags["mlflow.parentRunId"] == run.info.run_id
    curve = mlflow.MlflowClient().get_metric_history(below.info.run_id, "training_loss_nats")
    assert [point.step for point in curve] == list(range(1, 10))


def test_a_name_of_no_series_is_refused_before_training():
    assert experiment.known_series("tiny:1") is None
    with pytest.raises(UnknownName, match="tiny:x"):
        experiment.known_series("tiny:x")


def test_a_selection_of_none_is_refused_before_statements_are_read(series_directory):
    assert experiment.known_selection("tiny", "512") is None
    for spec in ("7", "", "stage2"):
        with pytest.raises(InvalidInput, match="checkpoint"):
            experiment.known_selection("tiny", spec)
        with pytest.raises(InvalidInput, match="checkpoint"):
            experiment.one_checkpoint(CheckpointOptions("tiny", spec))
    assert experiment.known_selection(str(series_directory), "10").model == "mini"
    with pytest.raises(InvalidInput, match="unknown checkpoint of mini '7'"):
        experiment.known_selection(str(series_directory), "7")


def test_an_embedded_name_is_shared_with_no_directory(small, tracking, series_directory, tmp_path):
    mine = find_series(str(shutil.copytree(series_directory, tmp_path / "mine" / "tiny-1")))
    CheckpointStore().register(mine.checkpoints[-1], weights_digest(mine.checkpoints[-1]))
    with pytest.raises(Mismatch, match="is another series of that name; give it a name of its own"):
        experiment.registered_series("tiny:1")


@pytest.mark.parametrize(
    ("place", "way_out"),
    [
        ("/checkpoints", "-P model=checkpoints-2=/checkpoints"),
        ("/my runs/checkpoints", "-P 'model=my-runs-checkpoints=/my runs/"),
    ],
)
def test_the_name_that_is_proposed_can_be_pasted(tracking, place, way_out):
    CheckpointStore().register(Checkpoint("checkpoints", "/elsewhere/checkpoints", "step_1", 1), "ab" * 32)
    series = CheckpointSeries("checkpoints", (Checkpoint("checkpoints", place, "step_2", 2),))
    with pytest.raises(Mismatch, match=f"another series of that name; .*{re.escape(way_out)}"):
        require_own_name(series)


def test_an_embedded_series_of_another_recipe_keeps_its_name(small, tracking, cache, series_directory):
    former = shutil.copytree(series_directory, cache / "series" / ("0" * 24))
    before = find_series(str(former), name="tiny")
    CheckpointStore().register(before.checkpoints[0], weights_digest(before.checkpoints[0]))
    require_own_name(experiment.resolve_series("tiny"))


def test_a_line_is_known_unless_a_stage_is_trained_first(series_directory, tmp_path):
    stages = '[[stages]]\nname = "base"\nmodel = "{}"\n[[stages]]\nname = "sft"\nmodel = "{}"\n'
    for name, model in (("known", series_directory), ("trained", "tiny"), ("none", "tiny:x")):
        (tmp_path / f"{name}.toml").write_text(stages.format(series_directory, model))
    series = experiment.known_series(f"mine=@{tmp_path / 'known.toml'}")
    assert [checkpoint.label for checkpoint in series] == ["base step 100", "sft step 100"]
    assert series.model == "mine"
    assert experiment.known_series(f"@{tmp_path / 'trained.toml'}") is None
    with pytest.raises(UnknownName, match="tiny:x"):
        experiment.known_series(f"@{tmp_path / 'none.toml'}")


def test_a_stage_that_is_trained_first_joins_a_line(small, tmp_path):
    stages = '[[stages]]\nname = "base"\nmodel = "tiny"\n[[stages]]\nname = "again"\nmodel = "tiny:1"\n'
    (tmp_path / "seeds.toml").write_text(stages)
    series = experiment.resolve_series(f"@{tmp_path / 'seeds.toml'}")
    assert [checkpoint.line for checkpoint in series] == ["base", "again"]
    assert series.model == "seeds"


def test_the_next_command_takes_the_statements_given(tmp_path):
    write_statements(tmp_path, "toxicity", 40)
    write_statements(tmp_path, "privacy", 12)

    def following(names):
        options = StatementsOptions(names, str(tmp_path))
        statements = {each.name: load_statements(each, options.data) for each in options.chosen}
        return experiment.calibrate_or_report(options, statements, model="m", seeds="1")

    command = "mlflow run . -e {} --env-manager local -P model=m".format
    given = f"-P dimensions=toxicity -P data={tmp_path} -P seeds=1"
    assert following("toxicity") == following("toxicity,privacy") == f"{command('calibrate')} {given}"
    assert following("privacy") == command("report")
