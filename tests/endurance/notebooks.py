"""Notebooks as a reader's Jupyter runs them: in a kernel of their own, with the service that a cell starts."""

import os

import pytest

from tests.notebooks import NOTEBOOKS, executed
from tests.test_notebooks import CALLS_A_SERVICE, PATCH_PROSE, champion, environment, require_shown

__all__ = ["champion", "environment"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_kernel_runs_it(path, environment, request):
    if path.stem == CALLS_A_SERVICE:
        request.getfixturevalue("champion")
    require_shown(path, executed(path, environment, before=PATCH_PROSE))


def test_a_reader_without_anything_calls_the_shipped_pack(tracking):
    """Its probes are of answers, those of the tiny series of statements."""
    (path,) = [path for path in NOTEBOOKS if path.stem == CALLS_A_SERVICE]
    require_shown(path, executed(path, {**os.environ, "NOTEBOOK_MODEL": "smollm2", "NOTEBOOK_DIMENSION": "privacy"}))
