"""`make bench-gpu` runs as it is where there is no GPU, and needs only what its docstring says."""

import builtins
import json
import sys
import time

from tests.bench.gpu import SIZES, parts_of, run_part
from tests.bench.table import Comparison
from tests.forked import run_forked

OURS = {"registry", "serving", "pipelines", "tests"}
STATED = {"torch", "transformers", "tokenizers", "huggingface_hub", "httpx2", "numpy", "scipy", "sklearn",
          "threadpoolctl", "pandas", "safetensors", "jaxtyping", "tqdm"}  # fmt: skip


def measure_with_no_other_library(arguments):
    """As where only these are installed: in a child, all of ours is imported anew, and imports of others fail."""
    real = builtins.__import__

    def stated_only(name, globals=None, locals=None, fromlist=(), level=0):
        importer, library = (globals or {}).get("__name__", "").split(".")[0], name.split(".")[0]
        if importer in OURS and not level and library not in OURS | STATED | set(sys.stdlib_module_names):
            raise ImportError(f"{globals['__name__']} imports {name}")
        return real(name, globals, locals, fromlist, level)

    for name in [name for name in sys.modules if name.split(".")[0] in OURS]:
        del sys.modules[name]
    builtins.__import__ = stated_only
    from tests.bench.gpu import main

    assert main(arguments) == 0


def different_parts() -> list[str]:
    """Small shapes are small for both models, so that parts of the little one are the same calls again."""
    names: dict[str, str] = {}
    for name, (_, rows_of) in parts_of(SIZES["small"], "cpu", {}).items():
        names.setdefault(str(rows_of), name)
    return list(names.values())


def test_every_part_is_measured_with_no_other_library(tmp_path):
    out = tmp_path / "gpu.json"
    assert {"exact", "engine", "steering", "attention", "extraction", "probes", "nhsic"} <= set(different_parts())
    small = ["--shapes", "small", "--device", "cpu", "--parts", ",".join(different_parts()), "--out", str(out)]
    done = run_forked(lambda: measure_with_no_other_library(small))
    assert done.returncode == 0, done.output[-3000:]
    parts = json.loads(out.read_text())["parts"]
    assert all(part["rows"] and not part["error"] for part in parts.values())
    assert {row["value"] for row in parts["exact"]["rows"]} == {1.0}
    assert all(row["what"] in done.output for part in parts.values() for row in part["rows"])


def test_a_part_that_fails_keeps_its_rows_and_the_traceback(capsys):
    row = Comparison("key", "what", "1 s", "2 s", 0.5, "x")

    def rows():
        yield row
        raise ValueError("no such kernel")

    outcome = run_part((60, rows))
    assert outcome.rows == [row]
    assert "ValueError: no such kernel" in outcome.error and outcome.error in capsys.readouterr().err


def test_a_part_is_stopped_at_its_limit():
    def rows():
        time.sleep(30)
        yield

    outcome = run_part((0.2, rows))
    assert outcome.seconds < 10 and "TimeoutError: not done within 0.2 s" in outcome.error
