"""Stores of units: whole files, and those that an earlier version wrote."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from pipelines.information.store import InformationStore
from pipelines.probe.result import ResultStore

FORMER = Path(__file__).parent / "former"


@pytest.fixture
def probe(tmp_path):
    store = ResultStore(tmp_path)
    shutil.copy(FORMER / "probe.safetensors", store.path("0" * 32))
    return store


@pytest.fixture
def information(tmp_path):
    store = InformationStore(tmp_path)
    shutil.copy(FORMER / "information.safetensors", store.path("1" * 32))
    return store


def test_a_probing_result_of_an_earlier_version_is_read(probe):
    result = probe.find("0" * 32)
    assert (result.checkpoint.model, result.checkpoint.step, result.dimension) == ("mini", 10, "toxicity")
    assert result.score(1, 0).accuracy.value == 0.75
    assert result.direction(1).mass_mean.scale == 0.5
    assert result.direction(1).mass_mean.direction.shape == (4,)
    assert not np.array_equal(result.direction(0).probe_weights, result.direction(1).probe_weights)
    assert result.probabilities.shape == (1, 2, 8)
    assert (result.protocol, result.split, np.isnan(result.validation).all()) == ("", "", True)


def test_an_information_result_of_an_earlier_version_is_read(information):
    result = information.find("1" * 32)
    assert result.point(1).xt["sound"].halves == (0.5, 0.625)
    assert np.isnan(result.point(1).ty.cka)
    assert result.transferable.layer == 1
    assert result.transferable.weights.shape == (5, 4)
    np.testing.assert_array_equal(information.states("1" * 32), result.transferable.states.astype(np.float32))


@pytest.mark.parametrize(("kind", "digest"), [("probe", "0" * 32), ("information", "1" * 32)])
def test_what_is_read_is_written_in_full(kind, digest, request, tmp_path):
    store = request.getfixturevalue(kind)
    before = store.find(digest)
    store.save(before)
    again = store.find(digest)
    assert repr(again) == repr(before)
    assert sorted(tmp_path.glob("*.tmp")) == []


def test_a_file_of_another_shape_is_no_result(probe, information, tmp_path):
    shutil.copy(FORMER / "information.safetensors", probe.path("2" * 32))
    assert probe.find("2" * 32) is None
    assert not probe.path("2" * 32).exists()
