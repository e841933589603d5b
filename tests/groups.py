"""Groups of tests that run in one process: those of a file, and those of all files that ask for one server."""

from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SERVICE = "the service that files share"
ON_SERVER = "the tracking server"
IN_BROWSER = "the browser"
SHARED = {"service": SERVICE, "mlflow_server": ON_SERVER, "browser": IN_BROWSER}
"""Fixtures that take long to start and are started once: files that ask for one are a group."""
LONG = (
    SERVICE,
    ON_SERVER,
    IN_BROWSER,
    "tests/pipelines/calibrate/test_experiment.py",
    "tests/pipelines/probe/test_experiment.py",
    "tests/pipelines/information/test_experiment.py",
    "tests/pipelines/evaluate/test_experiment.py",
    "tests/pipelines/vectors/test_experiment.py",
    "tests/pipelines/compare/test_experiment.py",
    "tests/serving/api/test_lifecycle.py",
    "tests/test_notebooks.py",
    "tests/bench/test_gpu.py",
    "tests/pipelines/tracking/test_conclusion.py",
    "tests/pipelines/information/test_measure.py",
    "tests/serving/engine/slots/test_prefix_cache.py",
    "tests/serving/engine/slots/test_engine.py",
    "tests/registry/test_store.py",
    "tests/pipelines/sweep/test_run.py",
)
"""Groups that take longest: they begin first, so that no process ends alone."""


GROUP = pytest.StashKey[str]()
LEFT = pytest.StashKey[Counter[str]]()
ENDS = pytest.StashKey[dict[str, ExitStack]]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of a file run in one process, and those of all files that ask for one shared server."""
    groups = {item.path: str(item.path.relative_to(ROOT)) for item in items}
    for name, group in SHARED.items():
        groups |= {item.path: group for item in items if name in getattr(item, "fixturenames", ())}
    for item in items:
        item.stash[GROUP] = groups[item.path]
        item.add_marker(pytest.mark.xdist_group(groups[item.path]))
    items.sort(key=lambda item: LONG.index(groups[item.path]) if groups[item.path] in LONG else len(LONG))


def end_with_group(request: pytest.FixtureRequest, name: str) -> ExitStack:
    """What ends with the last test of the group of files that ask for the shared fixture ``name``.

    A session lasts minutes longer, and a server that nobody asks takes a tenth of a core.
    """
    return request.session.stash.setdefault(ENDS, {}).setdefault(SHARED[name], ExitStack())


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item) -> None:
    """Close what the group shared after its last test, in whichever order they run."""
    session, group = item.session, item.stash[GROUP]
    left = session.stash.setdefault(LEFT, Counter(each.stash[GROUP] for each in session.items))
    left[group] -= 1
    if not left[group] and group in session.stash.get(ENDS, {}):
        session.stash[ENDS][group].close()
