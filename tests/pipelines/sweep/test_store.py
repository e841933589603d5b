"""Stores of units: results in whole files, of every kind."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from pipelines.information.options import InformationSettings
from pipelines.information.plan import InformationPlan
from pipelines.information.store import InformationStore
from pipelines.probe.plan import SweepPlan
from pipelines.probe.result import ResultStore
from pipelines.statements.sources import load_statements
from pipelines.sweep.protocol import FittingProtocol
from pipelines.sweep.run import run_sweep
from registry.dimensions import TOXICITY
from serving.model.sources import find_series
from tests.small_statements import write_two_dimensions


@pytest.fixture(params=["probe", "information"])
def stored(request, series_directory, cache, tmp_path):
    """A store of one kind, and the result of a measured unit in it."""
    checkpoints = find_series(str(series_directory)).select("last")
    statements = {"toxicity": load_statements(TOXICITY, str(write_two_dimensions(tmp_path / "data")))}
    if request.param == "probe":
        store, plan = ResultStore(), SweepPlan(checkpoints, statements, FittingProtocol(seeds=1))
    else:
        store = InformationStore()
        plan = InformationPlan(checkpoints, statements, InformationSettings()).prepared(store)
    (result,) = run_sweep(plan, store)
    return store, result


def test_what_is_written_is_read_in_full(stored):
    store, result = stored
    assert repr(store.find(result.digest)) == repr(result)
    assert sorted(store.directory.glob("*.tmp")) == []


def test_a_file_of_another_shape_is_no_result(stored):
    store, _ = stored
    header = {"result": json.dumps({"digest": "2" * 32, "layers": [1, 2]})}
    save_file({"weights": np.zeros(2, np.float32)}, store.path("2" * 32), metadata=header)
    assert store.find("2" * 32) is None
    assert not store.path("2" * 32).exists()


@pytest.mark.parametrize("stored", ["information"], indirect=True)
def test_kept_activations_are_read_by_themselves(stored):
    store, result = stored
    np.testing.assert_array_equal(store.states(result.digest), result.transferable.states.astype(np.float32))
