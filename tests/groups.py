"""Groups of tests that run in one process: those of a file, and those of all files that ask for one server."""

import os
from collections import Counter
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
SERVICE = "the service that files share"
ON_SERVER = "the tracking server"
IN_BROWSER = "the browser"
SHARED = {"service": SERVICE, "mlflow_server": ON_SERVER, "browser": IN_BROWSER}
"""Fixtures that take long to start and are started once: files that ask for one are a group."""
FILES = {
    SERVICE: (
        "tests/clients/test_programs.py",
        "tests/serving/api/test_clients.py",
        "tests/serving/api/test_connections.py",
        "tests/serving/api/test_contract.py",
        "tests/serving/api/test_fields.py",
        "tests/serving/api/test_hidden_states.py",
        "tests/serving/api/test_http.py",
        "tests/serving/api/test_monitors.py",
        "tests/serving/api/test_operations.py",
        "tests/serving/api/test_readme.py",
        "tests/serving/api/test_responses_api.py",
        "tests/serving/api/test_security.py",
        "tests/serving/api/test_tools.py",
        "tests/serving/api/test_without_keys.py",
    ),
    ON_SERVER: ("tests/serving/api/test_workers.py", "tests/test_on_server.py"),
    IN_BROWSER: (
        "tests/pipelines/report/test_explorer.py",
        "tests/serving/playground/test_first_screen.py",
        "tests/serving/playground/test_page.py",
    ),
}
"""Those files; who runs the processes sees names of tests alone."""
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


def group_of(file: str) -> str:
    """The group of a file's tests: its own, or that of all files that ask for one shared server."""
    return next((group for group, files in FILES.items() if file in files), file)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give each process whole groups. pytest-xdist's own, by marks, are lost on pytest 9.2, which names tests anew."""
    from xdist.scheduler import LoadScopeScheduling

    class GroupScheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group_of(nodeid.split("::")[0])

    return GroupScheduling(config, log)


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session: pytest.Session) -> None:
    """Begin in each process at another file: what one has rewritten and compiled, the others read."""
    config = session.config
    process = getattr(config, "workerinput", None)
    if process is not None and config.args == config.getini("testpaths"):
        number, count = int(process["workerid"].removeprefix("gw")), process["workercount"]
        files = sorted(str(path) for path in (ROOT / "tests").rglob("test_*.py"))
        first = len(files) * number // count
        config.args = [*files[first:], *files[:first]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Name the group of each test, and begin with the groups that take longest, whatever was collected first."""
    for item in items:
        file = str(item.path.relative_to(ROOT))
        item.stash[GROUP] = group_of(file)
        for name, group in SHARED.items():
            if name in getattr(item, "fixturenames", ()) and item.stash[GROUP] != group:
                raise pytest.UsageError(f"{file} asks for the fixture {name}: name it in FILES of tests/groups.py")
    places = {group: place for place, group in enumerate(LONG)}
    items.sort(key=lambda item: (places.get(item.stash[GROUP], len(LONG)), item.path))


@pytest.fixture(scope="module", autouse=True)
def in_one_process(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Two processes that run one group would make its servers twice, and nothing else would tell."""
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker is not None:
        name = request.node.nodeid.replace("/", ".")
        group = group_of(request.node.nodeid).replace("/", ".")
        taken = tmp_path_factory.getbasetemp().parent / f"{group}.process"
        with suppress(FileExistsError), taken.open("x") as file:
            file.write(worker)
        assert taken.read_text() in ("", worker), f"{name} runs in {worker}, others of its group elsewhere"


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
