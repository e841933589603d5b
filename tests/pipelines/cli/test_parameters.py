"""Parameters: one field each, from the command line to MLflow."""

import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Literal

import pytest

from pipelines.cli.parameters import Options, group, parameter, parameters_of, parse, with_values
from pipelines.probe.options import ProbeOptions
from registry.errors import InvalidInput, UnknownName


@dataclass(frozen=True)
class Shape(Options):
    kind: Literal["round", "square"] = parameter("round", "round or square")
    size: int = parameter(3, "how large")


@dataclass(frozen=True)
class Drawing(Options):
    shape: Shape = group(Shape(size=5))
    names: tuple[str, ...] = parameter((), "names by commas")
    width: float | None = parameter(None, "auto, or a number", none="auto")
    title: str | None = parameter(None, "a title")
    filled: bool = parameter(False, "true fills it")
    constant: int = 7


@dataclass(frozen=True)
class Flat(Options):
    shape: Shape = group(Shape(), only=("size",))
    filled: bool = parameter(False, "100 % filled")


@dataclass(frozen=True)
class Drawn(Options):
    seed: int = parameter(0, "of what is drawn")


def parsed(*arguments):
    return parse(Drawing, "draw", "Draws.", arguments)


def test_defaults_and_values_are_typed():
    assert parsed() == Drawing()
    drawing = parsed("--names", "a, b", "--width", "1e-4", "--filled", "true", "--kind", "square", "--title", "x")
    assert drawing.names == ("a", "b")
    assert (drawing.width, drawing.filled, drawing.title) == (1e-4, True, "x")
    assert (drawing.shape.kind, drawing.constant) == ("square", 7)


def test_params_are_the_text_of_the_command_line():
    params = parsed("--names", "a,b", "--size", "9").params()
    assert params["names"] == "a,b"
    assert params["size"] == "9"
    assert (params["width"], params["title"], params["filled"]) == ("auto", "none", "false")
    assert with_values(Drawing(), params).params() == params


def test_a_group_may_lend_some_parameters_only():
    assert [parameter.name for parameter in parameters_of(Flat())] == ["size", "filled"]
    with pytest.raises(UnknownName, match="unknown parameter of flat 'kind'; known: size, filled"):
        parse(Flat, "flat", None, ["--kind", "square"])


@pytest.mark.parametrize(("flag", "near"), [("--siz", "size"), ("--name", "names"), ("--filed=true", "filled")])
def test_abbreviated_parameters_are_refused_with_the_nearest(flag, near):
    with pytest.raises(UnknownName, match=f"unknown parameter of draw .* did you mean '{near}'"):
        parsed(*flag.split("="), "1")


def test_help_shows_each_default(capsys):
    with pytest.raises(SystemExit):
        parse(Flat, "flat", "About flat.", ["--help"])
    assert "100 % filled [false]" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--size", "big"], r"`size` is 'big'; give a whole number"),
        (["--width", "wide"], r"`width` is 'wide'; give auto or a number, such as 1e-4"),
        (["--width", "nan"], r"`width` is 'nan'; give auto or a number"),
        (["--width", "inf"], r"`width` is 'inf'; give auto or a number"),
        (["--filled", "maybe"], "unknown value of filled 'maybe'; known: true, false"),
        (["--kind", "squar"], "unknown kind 'squar'; did you mean 'square'"),
    ],
)
def test_a_wrong_value_names_its_parameter(arguments, words):
    with pytest.raises(InvalidInput, match=words):
        parsed(*arguments)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["a b"], "'a b' is no parameter of draw; name the parameter that it is for, such as --kind 'a b'"),
        (["--size"], "`--size` has no value; write --size=<value>"),
        (["--size", "--width", "1"], "`--size` has no value; write --size=<value>"),
    ],
)
def test_names_and_values_come_in_pairs(arguments, words, capsys):
    with pytest.raises(InvalidInput, match=words):
        parsed(*arguments)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("seed", ["-1", "4294967296"])
def test_a_seed_that_no_library_takes_is_refused(seed):
    with pytest.raises(InvalidInput, match=f"`seed` is {seed}; give a whole number from 0 to 4294967295"):
        parse(Drawn, "drawn", None, ["--seed", seed])
    assert parse(Drawn, "drawn", None, ["--seed", "4294967295"]).seed == 4294967295


def test_a_literal_is_checked_in_python_too():
    with pytest.raises(UnknownName, match="unknown kind 'oval'; known: round, square"):
        Shape(kind="oval")


@pytest.mark.parametrize("command", ["probe", "calibrate", "evaluate", "main"])
def test_help_and_typos_load_no_libraries(command):
    program = (
        "import sys; sys.argv = ['x', '--help']; import contextlib, runpy\n"
        "with contextlib.suppress(SystemExit):\n"
        f"    runpy.run_module('pipelines.{command}', run_name='__main__')\n"
        "print(sorted({'torch', 'transformers', 'mlflow', 'pandas', 'sklearn'} & set(sys.modules)))"
    )
    began = time.perf_counter()
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert finished.stdout.splitlines()[-1] == "[]"
    assert time.perf_counter() - began < 5


def test_a_name_may_have_underscores_as_in_mlproject():
    options = parse(ProbeOptions, "probe", None, ["--keep_activations=true", "--delete_after_use", "true"])
    assert options.keep_activations and options.scale.delete_after_use
