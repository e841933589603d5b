"""A registered vector loaded by a Python that sees nothing of this repository and has imported nothing before."""

import subprocess
import sys

import pytest

from tests.registry.test_loading_elsewhere import (
    PROGRAM,
    loaded,
    model,
    other_weights,
    test_a_champion_works_without_this_repository,
    test_a_kernel_that_a_configuration_names_is_not_fetched,
    test_a_missing_model_is_refused_with_a_way_out,
    test_texts_are_not_scored_by_other_weights,
)

__all__ = [
    "loaded",
    "model",
    "other_weights",
    "test_a_champion_works_without_this_repository",
    "test_a_kernel_that_a_configuration_names_is_not_fetched",
    "test_a_missing_model_is_refused_with_a_way_out",
    "test_texts_are_not_scored_by_other_weights",
]


@pytest.fixture(scope="module")
def run_elsewhere():
    def run(directory):
        command = [sys.executable, "-I", "-c", PROGRAM]
        finished = subprocess.run(command, cwd=directory, capture_output=True, text=True)
        assert finished.returncode == 0, finished.stderr
        return finished.stdout

    return run
