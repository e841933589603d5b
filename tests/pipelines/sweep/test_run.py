import dataclasses
import shutil
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from pipelines.model_io.activations import extract, kept_activations
from pipelines.probe.controls import measure_floors
from pipelines.probe.plan import SweepPlan
from pipelines.probe.result import ResultStore, UnitResult
from pipelines.probe.selection import Selection
from pipelines.probe.tables import CONTROL_COLUMNS, PROBE_COLUMNS, control_table, probe_table
from pipelines.statements.labelled import LabelledStatements
from pipelines.sweep.logged import run_logged
from pipelines.sweep.protocol import FittingProtocol
from pipelines.sweep.run import run_sweep
from serving.model import loading
from serving.model.language_model import load
from serving.model.loading import TokenizerSource
from serving.model.placement import Placement
from serving.model.sources import find_series
from tests.small_statements import FILLERS


def statements(dimension, good, bad, seed):
    """Contrast pairs that end in a telling word."""
    rng = np.random.default_rng(seed)
    rows = {}
    while len(rows) < 80:
        opening = " ".join(rng.choice(FILLERS, 4))
        rows |= {f"{opening} {good}": (True, opening), f"{opening} {bad}": (False, opening)}
    groups = np.unique([group for _, group in rows.values()], return_inverse=True)[1]
    return LabelledStatements(
        dimension, tuple(rows), np.array([label for label, _ in rows.values()]), groups.astype(np.int64), "test"
    )


@pytest.fixture(scope="module")
def whole_plan(series_directory):
    series = find_series(str(series_directory))
    return SweepPlan(
        (series.random_init, *series),
        {"toxicity": statements("toxicity", "kind", "cruel", 0), "privacy": statements("privacy", "Paris", "Peru", 1)},
        FittingProtocol(seeds=2),
    )


@pytest.fixture
def plan(whole_plan, cache):
    return whole_plan


@dataclasses.dataclass(frozen=True)
class WholeSweep:
    """All units of the plan, measured once in a cache of their own."""

    cache: Path
    store: ResultStore
    results: tuple[UnitResult, ...]


@pytest.fixture(scope="module")
def whole(whole_plan, tmp_path_factory):
    root = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRUSTTRACE_CACHE", str(root))
        store = ResultStore()
        return WholeSweep(root, store, tuple(run_sweep(whole_plan, store)))


def same(one, other):
    arrays = ("probabilities", "validation", "distances")
    plain = [dataclasses.replace(each, seconds=0, directions=(), **dict.fromkeys(arrays)) for each in (one, other)]
    return (
        plain[0] == plain[1]
        and all(np.array_equal(getattr(one, name), getattr(other, name)) for name in arrays)
        and all(
            np.array_equal(a.mass_mean.direction, b.mass_mean.direction)
            for a, b in zip(one.directions, other.directions, strict=True)
        )
    )


def test_every_unit_is_measured_in_order_and_stored_whole(whole):
    assert [(unit.checkpoint.step, unit.dimension) for unit in whole.results] == [
        (step, dimension) for step in (-1, 0, 10, 100) for dimension in ("toxicity", "privacy")
    ]
    for result in whole.results:
        stored = whole.store.find(result.digest)
        assert stored is not None
        assert same(stored, result)
        assert [score.layer for score in result.pooled] == [0, 1, 2]
        assert {score.seed for score in result.scores} == {0, 1, None}
        # The last word is the last token: any network can be read.
        assert result.score(0).accuracy.value > 0.95
        assert abs(result.score(0).shuffled.value - 0.5) < 0.25


def test_steps_of_equal_files_keep_a_row_each(series_directory, plan, tmp_path):
    twins = shutil.copytree(series_directory, tmp_path / "twins")
    shutil.rmtree(twins / "step_000010")
    shutil.copytree(twins / "step_000000", twins / "step_000001")
    series = find_series(str(twins))
    results = list(run_sweep(dataclasses.replace(plan, checkpoints=tuple(series)), ResultStore()))
    named = [(result.checkpoint.step, result.dimension) for result in results]
    assert named == [(step, dimension) for step in (0, 1, 100) for dimension in ("toxicity", "privacy")]
    assert results[0].digest == results[2].digest


def test_a_copy_under_another_name_keeps_its_own_name(series_directory, plan, tmp_path, monkeypatch):
    store, trained = ResultStore(), dataclasses.replace(plan, checkpoints=plan.checkpoints[1:])
    list(run_sweep(trained, store))
    moved = tmp_path / "moved"
    for step in (0, 10, 100):
        shutil.copytree(series_directory / f"step_{step:06d}", moved / f"step_{2 * step}")
    monkeypatch.setattr("pipelines.sweep.run.load", lambda *_, **__: pytest.fail("measured again"))
    results = list(run_sweep(dataclasses.replace(trained, checkpoints=tuple(find_series(str(moved)))), store))
    assert {(result.checkpoint.model, result.checkpoint.step) for result in results} == {
        ("moved", 0),
        ("moved", 20),
        ("moved", 200),
    }


def test_files_that_do_not_tell_their_pooling_are_told_it(whole_plan, whole):
    class Before(ResultStore):
        def find(self, digest):
            return dataclasses.replace(whole.store.find(digest), pooling="")

    found = list(run_sweep(whole_plan, Before()))
    assert len(found) == 8 and {result.pooling for result in found} == {whole_plan.reading.pooling} != {""}


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "generation_config.json", "chat_template.jinja"])
def test_any_file_that_loading_reads_decides_the_digest(series_directory, plan, tmp_path, name):
    copy = shutil.copytree(series_directory, tmp_path / "mini")
    digests = []
    for text in ("", " "):
        path = copy / "step_000010" / name
        path.write_text(path.read_text() + text if path.is_file() else text)
        digests.append(plan.digest(find_series(str(copy)).at(10), "toxicity"))
    assert digests[0] != digests[1]
    (copy / "step_000010" / "trainer_state.json").write_text("{}")
    assert plan.digest(find_series(str(copy)).at(10), "toxicity") == digests[1]


def test_a_mended_tokenizer_decides_the_random_initialisation_too(series_directory, plan, tmp_path):
    copy = shutil.copytree(series_directory, tmp_path / "mini")
    before = plan.digest(find_series(str(copy)).random_init, "toxicity")
    path = copy / "step_000000" / "tokenizer.json"
    path.write_text(path.read_text() + " ")
    assert plan.digest(find_series(str(copy)).random_init, "toxicity") != before


def test_results_named_by_weights_alone_are_counted_once(plan, cache):
    store = ResultStore()
    store.directory.mkdir(parents=True)
    (store.directory / "0123.safetensors").write_bytes(b"of an earlier version")
    assert [store.retire_former() for _ in range(2)] == [1, 0]
    fresh = ResultStore(cache / "fresh")
    next(run_sweep(plan, fresh))
    assert fresh.retire_former() == 0


def test_progress_reaches_the_announced_work_fresh_and_resumed(plan):
    plan = dataclasses.replace(plan, checkpoints=plan.checkpoints[:2])
    for _ in range(2):
        seen = []
        list(run_sweep(plan, ResultStore(), on_progress=seen.append))
        assert sum(seen) == plan.work


def test_a_sweep_makes_the_tokenizer_of_a_series_once(plan, monkeypatch):
    made, make = [], TokenizerSource.make
    monkeypatch.setattr(loading, "shared_tokenizer", lru_cache(lambda source: made.append(source) or make(source)))
    list(run_sweep(plan, ResultStore()))
    assert len(plan.checkpoints) > 2
    assert len(made) == 1


def test_a_killed_sweep_goes_on_at_the_first_unfinished_unit(plan, whole, monkeypatch):
    store = ResultStore()
    interrupted = run_sweep(plan, store)
    for _ in range(3):
        next(interrupted)
    interrupted.close()
    loaded = []
    monkeypatch.setattr("pipelines.sweep.run.load", lambda one, **how: loaded.append(one.step) or load(one, **how))
    resumed = list(run_sweep(plan, store))
    assert loaded == [0, 10, 100]  # the random initialisation was finished
    assert all(same(unit, other) for unit, other in zip(resumed, whole.results, strict=True))


def test_a_damaged_result_is_measured_again(plan):
    store = ResultStore()
    first = next(run_sweep(plan, store))
    store.path(first.digest).write_bytes(b"damaged")
    assert store.find(first.digest) is None
    assert same(next(run_sweep(plan, store)), first)


def test_what_decides_a_number_decides_the_digest(plan):
    checkpoint = plan.checkpoints[1]
    digests = {plan.digest(checkpoint, "toxicity"), plan.digest(checkpoint, "privacy")}
    digests.add(plan.digest(plan.checkpoints[2], "toxicity"))
    digests.add(dataclasses.replace(plan, protocol=FittingProtocol(seeds=3)).digest(checkpoint, "toxicity"))
    other = "float32" if plan.placement.precision == "bfloat16" else "bfloat16"
    digests.add(dataclasses.replace(plan, placement=Placement(other)).digest(checkpoint, "toxicity"))
    assert len(digests) == 5


def test_auto_and_what_it_comes_to_are_one_digest(plan):
    named = dataclasses.replace(plan, placement=Placement().resolved())
    assert plan.digest(plan.checkpoints[0], "toxicity") == named.digest(plan.checkpoints[0], "toxicity")


def test_the_papers_protocol_agrees_with_scikit_learn(plan):
    protocol = FittingProtocol(protocol="paper")
    checkpoint, one = plan.checkpoints[-1], plan.statements["toxicity"]
    paper = SweepPlan((checkpoint,), {"toxicity": one}, protocol)
    (result,) = run_sweep(paper, ResultStore())
    features = extract(load(checkpoint), one.texts).layer(1)
    scaled = (features - features.mean(axis=0)) / features.std(axis=0, ddof=1)
    reference = LogisticRegression().fit(scaled[:64], one.labels[:64]).score(scaled[64:], one.labels[64:])
    assert result.score(1).accuracy.value == pytest.approx(reference)
    assert result.score(1).accuracy.n == 16
    assert measure_floors(one, protocol).ngram[None].n == 16


def test_tables_have_every_column_layer_and_split(plan, whole):
    results = list(whole.results)
    initial = {unit.dimension: unit for unit in results[:2]}
    floors = {name: measure_floors(given, plan.protocol) for name, given in plan.statements.items()}
    selection = Selection.of(results, plan.statements, plan.protocol)
    table = probe_table(results, floors, initial, selection.every)
    assert tuple(table.columns) == PROBE_COLUMNS
    selected = table[table["selected"] != ""]
    assert len(selected) == 3 * 2 + 2
    assert selected["seed"].isna().all()
    assert selected["selected"].str.startswith("checkpoint and layer chosen on an inner fold").sum() == 2
    table = table[table["selected"] == ""]
    assert len(table) == 4 * 2 * 3 * 2
    assert not table.loc[:, :"margin_high"].isna().any().any()
    assert set(table["tpr_at_1_fpr"]) == {"cannot be told"}
    assert (table["accuracy_low"] <= table["accuracy"]).all()
    assert (table["n_test"] == 80).all()
    at_init = table[table["step"] == -1]
    np.testing.assert_array_equal(at_init["accuracy"], at_init["random_init"])
    controls = control_table("mini", floors, initial)
    assert tuple(controls.columns) == CONTROL_COLUMNS
    assert set(controls["control"]) == {"ngram_floor", "surface_floor", "random_init"}


def test_units_without_kept_activations_are_measured_again(plan, cache, capsys, monkeypatch):
    (name, given), *_ = plan.statements.items()
    plan = dataclasses.replace(plan, checkpoints=plan.checkpoints[:1], statements={name: given})
    store, kept = ResultStore(cache / "probe"), dataclasses.replace(plan, keep_activations=True)
    (before,) = run_logged(plan, store, lambda unit: unit, "probing")
    assert not kept_activations(before.digest).exists()
    (again,) = run_logged(kept, store, lambda unit: unit, "probing")
    assert kept_activations(before.digest).is_file() and same(before, again)
    assert f"activations: {cache / 'activations'}, a file per unit" in capsys.readouterr().out
    monkeypatch.setattr("pipelines.sweep.run.measure_unit", None)
    assert same(run_logged(kept, store, lambda unit: unit, "probing")[0], before)


def test_units_alone_or_together_agree(plan, whole, cache):
    assert not list((whole.cache / "scratch").iterdir())
    assert not (whole.cache / "activations").exists()
    plan = dataclasses.replace(plan, checkpoints=plan.checkpoints[:2])
    together = whole.results[:4]
    for name, given in plan.statements.items():
        alone = dataclasses.replace(plan, statements={name: given}, keep_activations=True)
        found = list(run_sweep(alone, ResultStore(cache / "alone")))
        assert all(same(a, b) for a, b in zip(found, [b for b in together if b.dimension == name], strict=True))
    assert {path.stem for path in (cache / "activations").iterdir()} == {unit.digest for unit in together}
    for result in together:
        kept = np.load(cache / "activations" / f"{result.digest}.npy", mmap_mode="r")
        one = plan.statements[result.dimension]
        model = load(result.checkpoint)
        in_memory = extract(model, one.texts)
        np.testing.assert_array_equal(kept, in_memory.hidden_states)
        assert same(plan.measure(model, result.dimension, in_memory, 0), result)
