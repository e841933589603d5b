"""Groups of tests: which files run in one process."""

from types import SimpleNamespace

import pytest

from tests.groups import (
    FILES,
    IN_BROWSER,
    LONG,
    ROOT,
    SERVICE,
    SHARED,
    group_of,
    pytest_collection,
    pytest_collection_modifyitems,
)
from tests.groups import pytest_xdist_make_scheduler as scheduler_of


def test_xdist_is_given_whole_groups():
    scheduler = scheduler_of(SimpleNamespace(getvalue=lambda _: ["popen"]), None)
    names = {
        "tests/serving/api/test_http.py::test_a[x::y]": SERVICE,
        "tests/serving/playground/test_page.py::test_b": IN_BROWSER,
        "tests/registry/test_packs.py::TestPacks::test_c": "tests/registry/test_packs.py",
    }
    assert {name: scheduler._split_scope(name) for name in names} == names


def test_groups_are_of_files_that_exist():
    files = [file for files in FILES.values() for file in files]
    assert len(files) == len(set(files)) and set(FILES) == set(SHARED.values())
    assert [file for file in (*files, *LONG) if file not in FILES and not (ROOT / file).is_file()] == []


def test_files_that_ask_for_a_server_are_its_group():
    item = SimpleNamespace(path=ROOT / "tests/test_new.py", stash={}, fixturenames=["browser"])
    with pytest.raises(pytest.UsageError, match=r"tests/test_new\.py asks for the fixture browser: name it in FILES"):
        pytest_collection_modifyitems([item])
    assert group_of("tests/test_new.py") == "tests/test_new.py"


def collected(number: int, args: list[str]) -> list[str]:
    """What the process of this number of three collects, where ``args`` are collected."""
    names = {"workerid": f"gw{number}", "workercount": 3}
    config = SimpleNamespace(workerinput=names, args=args, getini={"testpaths": ["tests"]}.get)
    pytest_collection(SimpleNamespace(config=config))
    return config.args


def test_processes_begin_at_other_files_and_collect_all():
    first, second, third = (collected(number, ["tests"]) for number in range(3))
    assert len({first[0], second[0], third[0]}) == 3
    assert sorted(second) == sorted(third) == first == sorted(str(path) for path in (ROOT / "tests").rglob("test_*.py"))
    assert collected(1, ["tests/test_lock.py"]) == ["tests/test_lock.py"]


def test_tests_are_ordered_alike_whatever_was_collected_first():
    items = [
        SimpleNamespace(path=ROOT / file, stash={}, fixturenames=[], name=name)
        for file in ("tests/a.py", *LONG[-2:], "tests/b.py")
        for name in "yx"
    ]
    turned = [*items[4:], *items[:4]]
    pytest_collection_modifyitems(items)
    pytest_collection_modifyitems(turned)
    assert turned == items
    assert [(item.path.name, item.name) for item in items[-4:]] == [
        ("a.py", "y"),
        ("a.py", "x"),
        ("b.py", "y"),
        ("b.py", "x"),
    ]
