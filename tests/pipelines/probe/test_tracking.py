"""What a unit's run costs: statements of SQL, and looking at texts."""

import dataclasses
from types import SimpleNamespace

import mlflow
import numpy as np
import pytest
from mlflow.data import pandas_dataset
from sqlalchemy import event
from sqlalchemy.engine import Engine

from pipelines.probe.controls import measure_floors
from pipelines.probe.tracking import UnitLog, promote_champion
from pipelines.statements.labelled import LabelledStatements
from pipelines.tracking.runs import entry_point_run
from registry.errors import NotFound
from registry.store import VectorStore
from tests.pipelines.probe.units import PROTOCOL, unit
from tests.registry.store_behaviour import MEASURED, REFUTED, register

LAYERS = 3


@pytest.fixture
def units():
    texts = tuple(f"statement {number}" for number in range(40))
    statements = LabelledStatements("toxicity", texts, np.tile([True, False], 20), np.arange(40) // 2, "small.csv")
    rng = np.random.default_rng(0)
    hidden = [rng.normal(size=(statements.n, 8)) + statements.labels[:, None] for _ in range(LAYERS)]
    measured = unit(statements, hidden)
    return statements, [dataclasses.replace(measured, digest=f"u{number}") for number in range(4)]


def logged(log, statements, result):
    floors = measure_floors(statements, PROTOCOL)
    return log.add(result, statements, floors, result, (LAYERS - 1,))


def test_a_further_unit_takes_few_statements_of_sql(tracking, units):
    statements, results = units
    executed: list[str] = []

    def count(_connection, _cursor, text, *_others):
        executed.append(text)

    with entry_point_run("probe mini", {}) as run:
        log = UnitLog(run)
        for result in results[:-1]:
            logged(log, statements, result)
        event.listen(Engine, "before_cursor_execute", count)
        try:
            logged(log, statements, results[-1])
        finally:
            event.remove(Engine, "before_cursor_execute", count)
    # To search for the version of each unit, or to fetch its run, is two or more besides.
    assert 30 < len([text for text in executed if not text.startswith("PRAGMA")]) <= 60


def test_statements_are_described_once_for_all_units(tracking, units, monkeypatch):
    statements, results = units
    inferred, real = [], pandas_dataset._infer_schema
    monkeypatch.setattr(pandas_dataset, "_infer_schema", lambda table: inferred.append(len(table)) or real(table))
    with entry_point_run("probe mini", {}) as run:
        log = UnitLog(run)
        for result in results:
            logged(log, statements, result)
    assert inferred == [statements.n]
    below = mlflow.search_runs(filter_string=f"tags.`mlflow.parentRunId` = '{run.info.run_id}'", output_format="list")
    assert [each.inputs.dataset_inputs[0].dataset.digest for each in below] == [statements.digest[:32]] * len(results)


def test_a_version_has_its_metrics_and_the_run_too(tracking, units):
    statements, (result, *_) = units
    with entry_point_run("probe mini", {}) as run:
        (vector,) = logged(UnitLog(run), statements, result)
    model = mlflow.MlflowClient().get_logged_model(vector.model_id)
    expected = {"toxicity/probe_accuracy", "toxicity/validation_accuracy", "toxicity/direction_auroc"}
    assert {metric.key: metric.value for metric in model.metrics} == {
        name: mlflow.get_run(vector.run_id).data.metrics[name] for name in expected
    }
    assert model.status.name == "READY" and model.source_run_id == vector.run_id
    assert [output.model_id for output in mlflow.get_run(vector.run_id).outputs.model_outputs] == [vector.model_id]


def test_what_text_refuted_becomes_no_champion(tracking):
    def promoted(version):
        return promote_champion(version, 0.9, 3, SimpleNamespace(accuracy="0.8 [0.7, 0.9]"))

    store = VectorStore()
    refuted = store.demote(store.judge(store.calibrate(register("u1"), MEASURED), REFUTED))
    assert promoted(refuted) is None
    with pytest.raises(NotFound):
        store.resolve("steer.tiny.toxicity@champion")
    other = register("u2")
    assert promoted(other) == other
    assert store.resolve("steer.tiny.toxicity@champion").version == other.version
