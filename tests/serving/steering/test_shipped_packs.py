"""Shipped packs: imported into an empty registry, kept out of a team's, and never a reason not to serve."""

import shutil
from dataclasses import replace

import mlflow
import pytest

from registry.errors import Unavailable
from registry.store import VectorStore
from serving.steering import shipped_packs
from serving.steering.catalog import Catalog
from serving.steering.shipped_packs import supply_vectors
from tests.serving.conftest import promoted, tracked_at
from tests.serving.packs import facts, shipped


@pytest.fixture(scope="module")
def pack(deployment, tmp_path_factory):
    return shipped(deployment, tmp_path_factory.mktemp("packs") / "mini")


@pytest.fixture(scope="module")
def model(deployment):
    return facts(deployment)


@pytest.fixture
def registry(empty_database, tmp_path):
    """MLflow pointed to an empty registry."""
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    with tracked_at(f"sqlite:///{tmp_path / 'mlflow.db'}"):
        yield


def catalog_of(model, setting, connect=VectorStore):
    supplies = []

    def supply(store):
        supplies.append(supply_vectors(str(setting), model, store))
        return supplies[-1]

    return Catalog(model, connect, supply=supply), supplies


def test_an_empty_registry_is_served_steered_at_once(model, pack, registry, monkeypatch, caplog):
    monkeypatch.setattr(shipped_packs, "SHIPPED", pack.directory.parent)
    catalog, supplies = catalog_of(model, "shipped")
    with caplog.at_level("INFO"):
        catalog.refresh()
    assert catalog.served.bank.champions == {"fairness": "steer.mini.fairness/1", "toxicity": "steer.mini.toxicity/1"}
    (supply,) = supplies
    assert (supply.state, supply.digest) == ("imported", pack.digest)
    assert "the registry had no vectors of mini; imported the pack of mini" in caplog.text
    catalog.refresh()
    assert len(supplies) == 1
    assert supply_vectors("shipped", model, VectorStore()).state == "not needed"


def test_a_registry_with_vectors_stays_as_it_is(deployment, model, pack, registry):
    own = promoted(deployment, "privacy")
    runs = len(mlflow.search_runs(search_all_experiments=True, output_format="list"))
    catalog, supplies = catalog_of(model, pack.directory)
    catalog.refresh()
    assert [supply.state for supply in supplies] == ["not needed"]
    assert catalog.served.bank.champions == {"privacy": f"{own.name}/{own.version}"}
    assert VectorStore().dimensions("mini") == ("privacy",)
    assert len(mlflow.search_runs(search_all_experiments=True, output_format="list")) == runs


@pytest.mark.parametrize(("setting", "state"), [("none", "off"), ("shipped", "none")])
def test_without_a_pack_nothing_is_imported(model, registry, setting, state):
    catalog, supplies = catalog_of(model, setting)
    catalog.refresh()
    assert [supply.state for supply in supplies] == [state]
    assert not catalog.served.bank.vectors


def test_other_weights_are_no_reason_not_to_serve(model, pack, registry):
    other = replace(model, weights_digest="ef" * 32)
    catalog, supplies = catalog_of(other, pack.directory)
    catalog.refresh()
    assert supplies[0].state == "failed"
    assert "the pack is for weights" in supplies[0].message
    assert catalog.health.answers


def test_a_registry_that_refuses_writing_is_still_served(model, pack, registry, monkeypatch):
    def refuse(*_names, **_how):
        raise PermissionError("forbidden")

    monkeypatch.setattr(VectorStore, "register", refuse)
    catalog, supplies = catalog_of(model, pack.directory)
    catalog.refresh()
    assert supplies[0].state == "failed"
    assert "could not be imported (PermissionError)" in supplies[0].message
    assert catalog.health.answers


def test_a_registry_that_comes_up_later_is_supplied_then(model, pack, registry):
    answers = iter([False, True])

    def connect():
        if not next(answers):
            raise Unavailable("no registry yet")
        return VectorStore()

    catalog, supplies = catalog_of(model, pack.directory, connect)
    catalog.refresh()
    assert not supplies
    assert not catalog.health.answers
    catalog.refresh()
    assert [supply.state for supply in supplies] == ["imported"]
    assert set(catalog.served.bank.champions) == {"fairness", "toxicity"}
