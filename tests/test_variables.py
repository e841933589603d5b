"""Environment variables: those that the code reads, beside what the READMEs and `.env.example` tell of them."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NAME = re.compile(r"\bTRUSTTRACE_[A-Z]+(?:_[A-Z]+)*\b")
FOLDERS = ("registry", "serving", "pipelines")
OURS = {"TRUSTTRACE_STATE"}
"""What the service tells its own workers."""


def named_in(*paths):
    return {name for path in paths for name in NAME.findall(path.read_text())}


READ = sorted(named_in(*(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))) - OURS)
COMPOSE = (ROOT / "compose.yaml").read_text()


@pytest.mark.parametrize("variable", READ)
def test_a_variable_that_is_read_is_documented(variable):
    manuals = [ROOT / "README.md", *(ROOT / folder / "README.md" for folder in FOLDERS)]
    assert variable in named_in(*manuals)
    if any(variable in path.read_text() for path in (ROOT / "serving").rglob("*.py")):
        assert variable in named_in(ROOT / "serving/README.md")


def test_what_the_service_shares_with_experiments_is_in_its_manual():
    shared = named_in(*(ROOT / "registry").rglob("*.py"))
    assert shared and shared <= named_in(ROOT / "serving/README.md")


def test_compose_and_its_example_name_the_same_variables():
    example = set(re.findall(r"(?m)^(\w+)=", (ROOT / ".env.example").read_text()))
    assert example == set(re.findall(r"\$\{(\w+)", COMPOSE))


def test_what_compose_sets_is_read():
    assert {*NAME.findall(COMPOSE)} - {"TRUSTTRACE_MEMORY"} <= {*READ}
