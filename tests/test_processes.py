"""Tests in several processes: what is reported is what one process would, and more where one of them ends."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = {
    "deep/test_first.py": """
        import os, pytest
        @pytest.fixture(scope="module")
        def made(tmp_path_factory):
            print("made")
            yield tmp_path_factory.mktemp("made")
            print("torn down")
        def test_a(made): assert made.is_dir()
        def test_b(made): assert made.is_dir()
        def test_c(made): assert {"process": os.getppid()} == {"process": 0}
    """,
    "deep/test_second.py": """
        import os, pytest
        def test_d(): os._exit(3)
        def test_e(): pass
        @pytest.mark.skip(reason="not now")
        def test_f(): pass
    """,
    "test_third.py": """
        import pytest
        @pytest.fixture
        def broken(): raise RuntimeError("no fixture")
        def test_g(broken): pass
    """,
}


@pytest.fixture
def suite(tmp_path):
    """Runs the files by so many processes, with further arguments."""
    for name, source in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(re.sub("(?m)^ {8}", "", source))

    def run(*arguments):
        command = [sys.executable, "-m", "pytest", "-p", "tests.processes", "-p", "no:cacheprovider", *arguments]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)

    return run


@pytest.mark.parametrize("processes", [2, 5])
def test_a_process_that_ends_fails_the_test_that_it_ran(suite, processes):
    ended = suite(f"--processes={processes}", "-rA")
    assert ended.returncode == 1
    outcomes = dict(re.findall(r"^(?:PASSED|FAILED|ERROR) \S+::(test_\w)(?: - (.+))?$", ended.stdout, re.M))
    assert {name for name, reason in outcomes.items() if not reason} == {"test_a", "test_b", "test_e"}
    assert outcomes["test_c"].startswith("AssertionError: assert {'process': ")
    assert outcomes["test_d"] == "its process ended with exit code 3"
    assert outcomes["test_g"] == "RuntimeError: no fixture"
    assert "2 failed, 3 passed, 1 skipped, 1 error" in ended.stdout
    assert (ended.stdout.count("made\n"), ended.stdout.count("torn down")) == (1, 1)


def test_the_first_failure_may_end_all(suite):
    ended = suite("--processes=2", "-x", "-q")
    assert ended.returncode == 1
    assert "stopping after 1 failures" in ended.stdout


def test_one_process_is_pytests_own_loop(suite):
    ended = suite("deep/test_first.py", "-q")
    assert "1 failed, 2 passed" in ended.stdout
