"""The manual's check of a number from activations that were kept, run as it is written."""

import re
import sys
import textwrap
from pathlib import Path

import numpy as np

from pipelines.statements.options import StatementsOptions
from pipelines.statements.sources import load_statements
from tests.small_statements import write_statements

MANUAL = Path(__file__).parents[2] / "pipelines" / "README.md"


def test_a_number_is_checked_as_the_manual_says(tmp_path, monkeypatch, capsys):
    (script,) = re.findall(r"^    python - \S+\.npy .*? <<'END'\n(.*?)^    END$", MANUAL.read_text(), re.M | re.S)
    data = f"toxicity={write_statements(tmp_path)}"
    (dimension,) = StatementsOptions("toxicity", data).chosen
    labels = load_statements(dimension, data).labels
    noise = np.random.default_rng(0).normal(size=(2, len(labels), 4)).astype(np.float32)
    noise[1, :, 0] += 20 * labels
    np.save(tmp_path / "unit.npy", noise)
    monkeypatch.setattr(sys, "argv", ["-", str(tmp_path / "unit.npy"), "toxicity", data, "1"])
    exec(textwrap.dedent(script), {"__name__": "__main__"})
    assert capsys.readouterr().out == f"1.000, n = {len(labels)}\n"
