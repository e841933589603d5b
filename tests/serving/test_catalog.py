"""What several workers make live, seen from the requests that run meanwhile."""

import threading
from dataclasses import replace

import pytest

from registry.store import VectorStore
from serving.catalog import Catalog
from serving.model.language_model import load
from serving.model.sources import find_series
from serving.shared_state import SharedState
from tests.serving.conftest import tracked_at

TOXICITY = "steer.mini.toxicity/1"


@pytest.fixture
def model(deployment):
    checkpoint = find_series(str(deployment.model), name=deployment.name).checkpoints[-1]
    return load(checkpoint, precision="float32", device="cpu")


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
def test_no_request_overtakes_the_loading_of_what_another_worker_made_live(deployment, model, tmp_path, by):
    with tracked_at(deployment.tracking_uri):
        shared = SharedState(tmp_path / "changes.json")
        store = SlowStore()
        catalog = Catalog(model, lambda: store, shared)
        shared.update(lambda now: replace(now, vectors=(TOXICITY,)))

        first = threading.Thread(target=getattr(catalog, by))
        first.start()
        assert store.asked.wait(30)
        found = []
        second = threading.Thread(target=lambda: (catalog.follow_workers(), found.append(set(catalog.live.loaded))))
        second.start()
        second.join(0.2)
        assert found == []

        store.answer.set()
        first.join(30)
        second.join(30)
        assert TOXICITY in found[0]
