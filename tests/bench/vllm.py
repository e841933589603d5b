"""The engine over vLLM beside the slot engine, measured by a Python that has vLLM, where there is one."""

import json
import os
import subprocess
from pathlib import Path

from tests.bench.table import Comparison

PYTHON = Path(os.environ.get("TRUSTTRACE_VLLM_PYTHON", ".venv-vllm/bin/python"))
ROOT = Path(__file__).parents[2]


def compare_vllm(model_name: str, rounds: int) -> list[Comparison]:
    """Nothing, and a line that says so, where vLLM is not installed."""
    if not PYTHON.exists():
        print(f"vllm: {PYTHON} does not exist; `make test-vllm` installs it")
        return []
    command = [PYTHON.absolute(), "-m", "tests.bench.vllm_worker", "--model", model_name, "--rounds", str(rounds)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1200, check=False)
    if done.returncode:
        raise RuntimeError(f"vLLM's worker failed: {done.stderr[-500:]}")
    measured = json.loads(done.stdout.splitlines()[-1])
    rates, label = measured["rates"], f"vLLM {measured['version']}"
    rows = []
    for setting, what in (
        ("serial", f"one request at a time by {label}, `{model_name}` bfloat16"),
        ("none", f"16 at once by {label}, unsteered"),
        ("five", f"16 at once by {label}, five dimensions"),
        ("many", f"16 at once by {label}, each with a setting of its own"),
    ):
        theirs, ours = rates[f"vllm {setting}"], rates[f"slots {setting}"]
        against = f"{ours:.0f} by the slot engine"
        rows.append(Comparison(f"vllm/{setting}", what, f"{theirs:.0f} tokens/s", against, theirs / ours, "x"))
    cost = 100 * (rates["vllm none"] / rates["vllm five"] - 1)
    rows.append(
        Comparison(
            "vllm/steering",
            f"steering all five dimensions in {label}, 16 at once",
            f"{rates['vllm five']:.0f} tokens/s",
            f"{rates['vllm none']:.0f} unsteered",
            cost,
            "%",
        )
    )
    return rows
