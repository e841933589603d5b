"""Memory that one thread computes in again and again."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from serving.model import workspace
from serving.model.workspace import MOST_KEPT, Workspace

CPU = torch.device("cpu")


def test_a_thread_is_given_the_same_memory_again():
    room = Workspace()
    first = room.of((4, 300), CPU)
    assert room.of((300, 4), CPU).data_ptr() == room.of((2, 7), CPU).data_ptr() == first.data_ptr()
    assert room.of((2, 7), CPU).shape == (2, 7)
    assert room.of((5, 300), CPU).shape == (5, 300)


def test_each_thread_has_memory_of_its_own():
    room = Workspace()
    own = room.of((3, 4), CPU).fill_(1.0)
    with ThreadPoolExecutor(1) as threads:
        threads.submit(lambda: room.of((3, 4), CPU).fill_(2.0)).result()
    assert bool((own == 1).all())


def test_no_large_memory_is_kept(monkeypatch):
    monkeypatch.setattr(workspace, "MOST_KEPT", 100)
    room = Workspace()
    large = room.of((2, 51), CPU)
    assert large.data_ptr() != room.of((2, 51), CPU).data_ptr()
    assert 4 * MOST_KEPT == 16 << 20


@pytest.mark.parametrize("first", [True, False])
def test_it_can_be_changed_in_inference_mode_and_outside(first):
    room = Workspace()
    for mode in (first, not first):
        with torch.inference_mode(mode):
            room.of((2, 2), CPU).fill_(1.0).mul_(2)
