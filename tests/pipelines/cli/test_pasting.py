"""Commands in messages: pasted, they mean what was meant."""

import shlex
from itertools import pairwise

import pytest

from pipelines.calibrate.options import CalibrateOptions
from pipelines.cli.parameters import with_values
from pipelines.cli.pasting import mlflow_run
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
