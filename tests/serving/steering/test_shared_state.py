"""What administrators change, as several processes see it."""

import multiprocessing
from dataclasses import replace

import pytest

from registry.errors import Unavailable
from serving.steering.request import DimensionSteering
from serving.steering.shared_state import Changes, SharedState


def test_a_change_is_seen_by_sharers_of_the_file_alone(tmp_path):
    one, other, apart = (SharedState(tmp_path / name) for name in ("a.json", "a.json", "b.json"))
    one.update(lambda now: replace(now, default=DimensionSteering({"toxicity": 1.5})))
    other.update(lambda now: replace(now, vectors=(*now.vectors, "steer.tiny.privacy/2")))
    assert one.current() == other.current() == Changes(DimensionSteering({"toxicity": 1.5}), ("steer.tiny.privacy/2",))
    assert apart.current() == SharedState().current() == Changes()


def _add(path, number):
    SharedState(path).update(lambda now: replace(now, vectors=(*now.vectors, str(number))))


def test_processes_that_change_at_once_lose_nothing(tmp_path):
    processes = multiprocessing.get_context("fork")
    workers = [processes.Process(target=_add, args=(tmp_path / "a.json", number)) for number in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert set(SharedState(tmp_path / "a.json").current().vectors) == set(map(str, range(8)))


def test_a_file_that_cannot_be_read_leaves_what_was_known(tmp_path):
    state = SharedState(tmp_path / "a.json")
    state.update(lambda now: replace(now, vectors=("v",)))
    (tmp_path / "a.json").write_text("{")
    assert state.current().vectors == ("v",)


def test_a_missing_directory_is_refused_and_changes_nothing(tmp_path):
    state = SharedState(tmp_path / "gone" / "a.json")
    with pytest.raises(Unavailable, match=r"all workers.*nothing was changed"):
        state.update(lambda now: replace(now, vectors=("v",)))
    assert state.current() == Changes()
