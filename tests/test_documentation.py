"""Documentation held to the code: links, commands, folders and the size of the README."""

import ast
import importlib.util
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
IGNORED = {".venv", "mlruns", "mlartifacts", "node_modules"}
DOCUMENTS = sorted(
    path for path in ROOT.rglob("*.md") if not any(part.startswith(".venv") or part in IGNORED for part in path.parts)
)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
ENTRY_POINTS = yaml.safe_load((ROOT / "MLproject").read_text())["entry_points"]
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
FOLDERS = re.compile(r"^\| (`[^|]+`) \|", re.M)
PLACEHOLDER = re.compile(r"[<…]|\bURI\b|\bHOST\b|DIR\b")


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def prose(text: str) -> str:
    """The text without fenced code, where brackets are code."""
    return re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)


def anchors(path: Path) -> set[str]:
    """The anchors that GitHub gives to the headings of a document."""
    headings = re.findall(r"^#+ +(.+)$", prose(path.read_text()), re.M)
    plain = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower() for heading in headings]
    return {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_links_lead_somewhere(document):
    for link in LINK.findall(prose(document.read_text())):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        assert target.exists(), f"{name(document)} links to {link}"
        if anchor:
            assert anchor in anchors(target), f"{name(document)} links to {link}; headings: {sorted(anchors(target))}"


def commands(document: Path) -> Iterator[str]:
    """Every command line in code of a document: indented, fenced, or in backticks."""
    text = re.sub(r"\\\n\s*", " ", document.read_text())
    lines = re.findall(r"^(?: {4}|\t)(\S.*)$", text, re.M)
    for block in re.findall(r"^```(?:sh|bash|console)?\n(.*?)^```$", text, re.M | re.S):
        lines += block.splitlines()
    lines += re.findall(r"`((?:make|mlflow run|python -m) [^`]+)`", text.replace("\n", " "))
    for line in lines:
        for command in re.split(r"&&|;", line.split("  #")[0]):
            words = re.sub(r"^(?:[A-Z_]+=\S* +)+", "", command.strip())
            if re.match(r"(make|mlflow run|python -m) ", words):
                yield words


def problem(command: str) -> str | None:
    """Why a command cannot be run as it stands, or ``None``."""
    words = shlex.split(command)
    if words[0] == "make":
        unknown = [word for word in words[1:] if "=" not in word and word not in TARGETS]
        return f"make has no target {unknown[0]}" if unknown else None
    if words[0] == "python":
        found = importlib.util.find_spec(words[2])
        return None if found else f"there is no module {words[2]}"
    entry = words[words.index("-e") + 1] if "-e" in words else "main"
    if entry not in ENTRY_POINTS:
        return f"MLproject has no entry point {entry}"
    given = [words[place + 1].split("=", 1)[0] for place, word in enumerate(words) if word == "-P"]
    unknown = [key for key in given if key not in ENTRY_POINTS[entry]["parameters"]]
    return f"{entry} has no parameter {unknown[0]}" if unknown else None


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_commands_name_what_exists(document):
    for command in commands(document):
        if not PLACEHOLDER.search(command):
            assert problem(command) is None, f"{name(document)}: {command}: {problem(command)}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_indented_commands_work_where_they_are_pasted(document):
    for indent, line in re.findall(r"^( *)(mlflow run \. .*)$", document.read_text(), re.M):
        assert len(indent) >= 4, f"{name(document)}: {line} is not shown as code"
        assert "--env-manager" in line, f"{name(document)}: {line}"


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("make nothing", "no target nothing"),
        ("mlflow run . -e nothing", "no entry point nothing"),
        ("mlflow run . -e probe -P modle=tiny", "no parameter modle"),
        ("python -m pipelines.nothing", "no module pipelines.nothing"),
    ],
)
def test_a_wrong_command_is_noticed(command, said):
    assert said in problem(command)


def test_the_readme_is_short_and_shows_pictures():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 200
    assert len(re.findall(r"^!\[[^\]]+\]\(", text, re.M)) >= 2


def test_contributing_names_every_room():
    rows = re.findall(r"^\| `(\w+)/`, [^|]+\|(.+)\|$", (ROOT / ".github" / "CONTRIBUTING.md").read_text(), re.M)
    assert [package for package, _ in rows] == ["pipelines", "serving", "registry"]
    for package, rooms in rows:
        there = {path.name for path in (ROOT / package).iterdir() if path.is_dir() and path.name != "__pycache__"}
        assert there <= set(re.findall(r"`(\w+)`", rooms)), package


@pytest.mark.parametrize("package", ["pipelines", "registry", "serving"])
def test_each_package_lists_its_folders(package):
    text = (ROOT / package / "README.md").read_text()
    section = re.search(r"^## Folders\n(.*?)(?=^## |\Z)", text, re.M | re.S)
    assert section, f"{package}/README.md has no section Folders"
    listed = {entry for row in FOLDERS.findall(section[1]) for entry in re.findall(r"`([^`]+)`", row)}
    there = {f"{path.name}/" for path in (ROOT / package).iterdir() if path.is_dir() and path.name != "__pycache__"}
    there |= {path.name for path in (ROOT / package).glob("*.py") if ast.parse(path.read_text()).body[1:]}
    assert listed == there


def test_make_help_is_a_table_of_words():
    listed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    columns = {re.match(r"[a-z-]+ +", line).end() for line in listed}
    assert len(columns) == 1 and "$" not in "".join(listed)
