"""The manual's example of reading a published curve, run as it is written."""

import re
import sys
import textwrap
from pathlib import Path

import numpy as np
import pandas as pd

from tests.forked import run_forked

ROOT = Path(__file__).parents[2]


def test_a_published_curve_is_read_as_the_manual_says(tmp_path):
    manual = (ROOT / "pipelines/README.md").read_text()
    (script,) = re.findall(r"^    python - curve\.csv <<'END'\n(.*?)^    END$", manual, re.M | re.S)
    steps = [0, 1, 2, 4, 8, 16, 32, 64, 128, 256]
    shape = np.interp(np.arange(10), [0, 3, 9], [0.0, 3.0, 1.0])
    curve = tmp_path / "curve.csv"
    pd.DataFrame({"step": steps, "1": shape, "2": shape + 0.01}).to_csv(curve, index=False)
    found = run_forked(lambda: run_script(textwrap.dedent(script), str(curve)))
    assert re.fullmatch(r"4 fall 2\.00, detectable from [\d.]+, p = 0\.0\d\d\n", found.output), found.output


def run_script(script, *arguments):
    sys.argv = ["-", *arguments]
    exec(script, {"__name__": "__main__"})
