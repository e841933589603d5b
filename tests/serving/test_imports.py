"""Imports without collections."""

import gc
import sys
from types import ModuleType

import pytest

from serving.imports import importing


@pytest.fixture
def collects_again():
    """What was frozen here stays so, and is freed with its last reference."""
    yield
    gc.enable()


@pytest.mark.parametrize("collects", [True, False])
def test_nothing_is_collected_and_the_setting_returns(collects, collects_again):
    (gc.enable if collects else gc.disable)()
    with importing():
        assert not gc.isenabled()
    assert gc.isenabled() is collects


@pytest.fixture
def new_module(monkeypatch):
    """Imports one more module; it is forgotten at the end."""
    return lambda: monkeypatch.setitem(sys.modules, "imported_for_a_test", ModuleType("imported_for_a_test"))


def test_what_was_imported_is_in_no_later_collection(collects_again, new_module):
    before = gc.get_freeze_count()
    with importing():
        new_module()
        made = [[] for _ in range(10_000)]
    assert gc.get_freeze_count() - before >= len(made)


def test_garbage_is_not_kept_where_nothing_was_imported(collects_again):
    before = gc.get_freeze_count()
    with importing():
        made = [[] for _ in range(10_000)]
    assert made and gc.get_freeze_count() <= before


def test_a_failed_import_collects_again(collects_again):
    with pytest.raises(ImportError), importing():
        raise ImportError
    assert gc.isenabled()
