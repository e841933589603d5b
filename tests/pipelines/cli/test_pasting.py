"""Commands in messages: pasted, they mean what was meant."""

import shlex
import subprocess
from itertools import pairwise

import pytest

from pipelines.calibrate.options import CalibrateOptions
from pipelines.cli.parameters import with_values
from pipelines.cli.pasting import chosen, make_serve, mlflow_run
from pipelines.statements.options import StatementsOptions

STATEMENTS = {"dimensions": "toxicity", "data": "toxicity=./my file.csv", "limit": "40"}


def test_a_command_names_what_is_no_default():
    assert mlflow_run("calibrate", StatementsOptions(), model="tiny") == (
        "mlflow run . -e calibrate --env-manager local -P model=tiny"
    )


@pytest.mark.parametrize("given", [{}, *({name: STATEMENTS[name]} for name in STATEMENTS), STATEMENTS])
def test_the_next_command_works_on_the_same_statements(given):
    options = with_values(StatementsOptions(), given)
    words = shlex.split(mlflow_run("calibrate", options, model="./a model"))
    values = dict(word.split("=", 1) for flag, word in pairwise(words) if flag == "-P")
    again = with_values(CalibrateOptions(), values)
    assert again.statements == options
    assert again.checkpoint.model == "./a model"


def test_what_decides_beside_the_statements_is_carried():
    given = {"checkpoint": "64", "precision": "float32", "device": "cpu", "by": "text", "figures": "paper"}
    options = with_values(CalibrateOptions(), {**given, "layers": "1"})
    assert chosen(options, *given) == given
    assert chosen(CalibrateOptions(), *given) == {}


def test_a_shell_sets_what_make_serve_is_given():
    line = make_serve("./a model", checkpoint="64", device="cpu").replace("make serve", "env")
    told = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True).stdout.splitlines()
    assert {"TRUSTTRACE_MODEL=./a model", "TRUSTTRACE_CHECKPOINT=64", "TRUSTTRACE_DEVICE=cpu"} <= set(told)
    assert make_serve("smollm2") == "make serve"
