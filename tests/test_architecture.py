"""House rules: the entry points of MLproject, and what no module may do. `make check` holds imports to theirs."""

import ast
import importlib
import re
import subprocess
from pathlib import Path

import yaml

from pipelines.cli.parameters import Options, parameters_of

ROOT = Path(__file__).parents[1]
FORBIDDEN = re.compile(r"import (cloud)?pickle|torch\.load|trust_remote_code=True|allow_pickle=True|joblib")
PACKAGES = ("registry", "serving", "pipelines")


def entry_points():
    return yaml.safe_load((ROOT / "MLproject").read_text())["entry_points"]


def test_a_module_has_main_exactly_when_mlproject_names_it():
    named = {re.search(r"python -m ([\w.]+)", entry["command"]).group(1) for entry in entry_points().values()}
    with_main = set()
    for path in (ROOT / "pipelines").rglob("*.py"):
        functions = [node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)]
        if "main" in functions:
            assert path.name == "__main__.py", path
            with_main.add(".".join(path.relative_to(ROOT).parent.parts))
    assert named == with_main


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            yield (node.module or "").split(".")[0]
        elif isinstance(node, ast.Import):
            yield from (name.name.split(".")[0] for name in node.names)


def test_mlflow_stays_in_tracking_and_matplotlib_in_figures():
    for path in (ROOT / "pipelines").rglob("*.py"):
        libraries, rooms = set(imported(path)), {path.stem, path.parent.name}
        assert "mlflow" not in libraries or "tracking" in rooms, path
        assert "matplotlib" not in libraries or "figures" in rooms, path


def test_entry_points_declare_the_commands_parameters():
    for name, entry in entry_points().items():
        module = importlib.import_module(f"pipelines.{name}.__main__")
        (options,) = [
            value for value in vars(module).values() if isinstance(value, type) and issubclass(value, Options)
        ]
        defaults = {parameter.name: parameter.to_text() for parameter in parameters_of(options())}
        declared = {key: str(parameter["default"]) for key, parameter in entry["parameters"].items()}
        assert declared == defaults
        for key in declared:
            assert f"--{key.replace('_', '-')} {{{key}}}" in entry["command"]


def test_requirements_stand_once_and_are_pinned():
    dependencies = yaml.safe_load((ROOT / "conda.yaml").read_text())["dependencies"]
    (pinned,) = [dependency["pip"] for dependency in dependencies if isinstance(dependency, dict)]
    assert all(re.fullmatch(r"[\w-]+(==|>=)[\d.]+", pin) for pin in pinned)
    assert "dependencies" not in re.findall(r"^(\w+) =", (ROOT / "pyproject.toml").read_text().split("[tool")[0], re.M)
    sed = subprocess.run(
        ["sed", "-n", "s/^      - //p", "conda.yaml"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert sed.stdout.split() == pinned  # what the Makefile installs


def test_files_and_functions_stay_small():
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            source = path.read_text()
            assert len(source.splitlines()) <= 300, path
            for node in ast.walk(ast.parse(source)):
                if isinstance(node, ast.FunctionDef):
                    assert node.end_lineno - node.lineno < 50, f"{path}: {node.name}"


def test_nothing_is_pickled_and_no_remote_code_is_trusted():
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            assert not FORBIDDEN.search(path.read_text()), path
