"""What several workers make live, seen from the requests that run meanwhile."""

import threading
from dataclasses import replace
from shutil import copy

import mlflow
import pytest

from registry.errors import Unavailable
from registry.store import VectorStore
from serving.model.language_model import load
from serving.model.sources import find_series
from serving.steering.catalog import Catalog
from serving.steering.shared_state import SharedState
from tests.serving.conftest import DIMENSIONS, promoted, tracked_at

TOXICITY = "steer.mini.toxicity/1"


@pytest.fixture
def model(deployment):
    checkpoint = find_series(str(deployment.model), name=deployment.name).checkpoints[-1]
    return load(checkpoint, precision="float32", device="cpu").facts


def references(catalog):
    return {vector.reference for vector in catalog.served.bank.vectors}


class SlowStore(VectorStore):
    """A registry that answers when it is told to."""

    def __init__(self):
        super().__init__()
        self.asked, self.answer = threading.Event(), threading.Event()

    def resolve(self, reference):
        self.asked.set()
        assert self.answer.wait(30)
        return super().resolve(reference)


@pytest.mark.parametrize("by", ["refresh", "follow_workers"])
def test_requests_wait_for_vectors_that_another_worker_made_live(deployment, model, tmp_path, by):
    with tracked_at(deployment.tracking_uri):
        shared = SharedState(tmp_path / "changes.json")
        store = SlowStore()
        catalog = Catalog(model, lambda: store, shared)
        shared.update(lambda now: replace(now, vectors=(TOXICITY,)))

        first = threading.Thread(target=getattr(catalog, by))
        first.start()
        assert store.asked.wait(30)
        found = []
        second = threading.Thread(target=lambda: (catalog.follow_workers(), found.append(references(catalog))))
        second.start()
        second.join(0.2)
        assert found == []

        store.answer.set()
        first.join(30)
        second.join(30)
        assert TOXICITY in found[0]


def test_requests_do_not_wait_for_a_slow_registry(deployment, model, tmp_path):
    with tracked_at(deployment.tracking_uri):
        shared = SharedState(tmp_path / "changes.json")
        store = SlowStore()
        catalog = Catalog(model, lambda: store, shared)
        store.answer.set()
        catalog.refresh()
        catalog.load("steer.mini.toxicity/1")
        store.answer.clear()
        store.asked.clear()

        refreshing = threading.Thread(target=catalog.refresh)
        refreshing.start()
        assert store.asked.wait(30)
        shared.update(lambda now: replace(now, vectors=()))
        asking = threading.Thread(target=catalog.follow_workers)
        asking.start()
        asking.join(30)
        assert refreshing.is_alive()
        assert not asking.is_alive()
        assert catalog._followed == ()
        store.answer.set()
        refreshing.join(30)
        assert set(catalog.served.bank.champions) == set(DIMENSIONS)


class PatchyStore(VectorStore):
    """A registry that answers, and cannot hand out one dimension's files, or those of one version of it."""

    broken = False
    broken_version = ""

    def load_with_probe(self, registered, **given):
        if self.broken and "toxicity" in registered.name and registered.version.endswith(self.broken_version):
            raise Unavailable("the registry does not hand out the file")
        return super().load_with_probe(registered, **given)


def test_an_unreadable_file_costs_its_dimension_alone(deployment, model):
    with tracked_at(deployment.tracking_uri):
        store = PatchyStore()
        store.broken = True
        catalog = Catalog(model, lambda: store)
        catalog.refresh()
        assert catalog.health.answers
        assert set(catalog.served.bank.champions) == set(DIMENSIONS) - {"toxicity"}
        assert "does not hand out" in str(catalog.served.refused["toxicity"])
        store.broken = False
        catalog.refresh()
        assert set(catalog.served.bank.champions) == set(DIMENSIONS)
        assert catalog.served.refused == {}


def test_a_champion_stays_while_its_successor_cannot_be_read(deployment, model, tmp_path):
    copy(deployment.tracking_uri.removeprefix("sqlite:///"), tmp_path / "mlflow.db")
    own = replace(deployment, tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}")
    with tracked_at(own.tracking_uri):
        store = PatchyStore()
        catalog = Catalog(model, lambda: store)
        catalog.refresh()
        promoted(own, "toxicity", seed=9)
        store.broken = True
        catalog.refresh()
        assert catalog.served.bank.champion("toxicity").registered.version == "1"
        store.broken = False
        catalog.refresh()
        assert catalog.served.bank.champion("toxicity").registered.version == "2"


def test_a_challenger_that_cannot_be_read_holds_up_no_champion(deployment, model, tmp_path, caplog):
    copy(deployment.tracking_uri.removeprefix("sqlite:///"), tmp_path / "mlflow.db")
    own = replace(deployment, tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}")
    with tracked_at(own.tracking_uri):
        store, client = PatchyStore(), mlflow.MlflowClient()
        store.broken, store.broken_version = True, promoted(own, "toxicity", seed=9).version
        client.set_registered_model_alias("steer.mini.toxicity", "champion", "1")
        client.set_registered_model_alias("steer.mini.toxicity", "challenger", store.broken_version)
        catalog = Catalog(model, lambda: store, with_challengers=True)
        catalog.refresh()
        newer = promoted(own, "privacy", seed=10)
        catalog.refresh()
        assert catalog.health.answers and catalog.served.challengers == {}
        assert catalog.served.bank.champion("privacy").registered.version == newer.version
        assert "the challenger of toxicity cannot be served: the registry does not hand out" in caplog.text


def test_a_dimension_without_champion_is_told_as_no_fault(deployment, model, tmp_path, caplog):
    copy(deployment.tracking_uri.removeprefix("sqlite:///"), tmp_path / "mlflow.db")
    with tracked_at(f"sqlite:///{tmp_path / 'mlflow.db'}"), caplog.at_level("INFO", "serving"):
        mlflow.MlflowClient().delete_registered_model_alias("steer.mini.toxicity", "champion")
        Catalog(model, VectorStore).refresh()
    (told,) = [record for record in caplog.records if "no champion of toxicity" in record.message]
    assert told.levelname == "INFO"


def test_later_tags_of_a_loaded_version_hold(deployment, model, tmp_path):
    copy(deployment.tracking_uri.removeprefix("sqlite:///"), tmp_path / "mlflow.db")
    own = replace(deployment, tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}")
    with tracked_at(own.tracking_uri):
        promoted(own, "toxicity", seed=9)
        catalog = Catalog(model)
        catalog.refresh()
        catalog.load(TOXICITY)
        mlflow.MlflowClient().set_model_version_tag("steer.mini.toxicity", "1", "calibrated", "yes")
        catalog.refresh()
        assert catalog.served.bank.find(TOXICITY).registered.tags["calibrated"] == "yes"
        assert catalog.served.bank.champion("toxicity").registered.version == "2"


def test_a_challenger_follows_its_alias(deployment, model, tmp_path):
    database = tmp_path / "mlflow.db"
    copy(deployment.tracking_uri.removeprefix("sqlite:///"), database)
    with tracked_at(f"sqlite:///{database}"):
        newer = promoted(deployment, "toxicity", seed=77)
        reference, client = f"{newer.name}/{newer.version}", mlflow.MlflowClient()
        client.set_registered_model_alias(newer.name, "champion", "1")
        client.set_registered_model_alias(newer.name, "challenger", newer.version)
        client.set_registered_model_alias("steer.mini.privacy", "challenger", "1")  # the champion itself
        catalog, without = Catalog(model, with_challengers=True), Catalog(model)
        for each in (catalog, without):
            each.refresh()
            assert each.served.bank.champions["toxicity"] == TOXICITY
        assert catalog.served.challengers == {"toxicity": reference}
        assert catalog.served.challenged.bank.champions["toxicity"] == reference
        assert without.served.challengers == {} and reference not in references(without)
        client.delete_registered_model_alias(newer.name, "challenger")
        catalog.refresh()
        assert catalog.served.challengers == {} and reference not in references(catalog)


@pytest.mark.parametrize("alias", ["champion", "challenger"])
def test_what_fits_no_longer_holds_up_nobody_else(deployment, model, tmp_path, alias):
    """A copy by MLflow's page under another dimension's name, and a tag that is set on a version that is live."""
    copy(deployment.tracking_uri.removeprefix("sqlite:///"), tmp_path / "mlflow.db")
    own = replace(deployment, tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}")
    with tracked_at(own.tracking_uri):
        client = mlflow.MlflowClient()
        client.set_registered_model_alias(
            "steer.mini.fairness", "challenger", promoted(own, "fairness", seed=8).version
        )
        client.set_registered_model_alias("steer.mini.fairness", "champion", "1")
        catalog = Catalog(model, with_challengers=True)
        catalog.refresh()
        client.copy_model_version("models:/steer.mini.toxicity/1", "steer.mini.fairness")
        client.set_registered_model_alias("steer.mini.fairness", alias, "3")
        client.set_model_version_tag("steer.mini.reliability", "1", "target", "mini")
        newer = promoted(own, "privacy", seed=10)
        catalog.refresh()
        champions = catalog.served.bank.champions
        assert champions["privacy"] == f"{newer.name}/{newer.version}" and catalog.health.answers
        assert "measured on weights" in str(catalog.served.refused["reliability"])
        assert catalog.served.challenged.bank.champions == champions
        refused = {} if alias == "challenger" else {"fairness"}
        assert champions.keys() == set(DIMENSIONS) - {"reliability", *refused}


def test_a_version_that_is_loaded_slowly_holds_up_no_promotion(deployment, model, tmp_path):
    with tracked_at(deployment.tracking_uri):
        store = SlowStore()
        catalog = Catalog(model, lambda: store)
        loading = threading.Thread(target=catalog.load, args=(TOXICITY,))
        loading.start()
        assert store.asked.wait(30)
        assert catalog._changing.acquire(timeout=5)
        catalog._changing.release()
        store.answer.set()
        loading.join(30)
        assert TOXICITY in references(catalog)
