"""What a GPU does with large models: `make bench-gpu`, one command of about three minutes on an H100.

    python -m tests.bench.gpu --out gpu.json            # on the first CUDA device
    python -m tests.bench.gpu --shapes small --device cpu   # the same code in seconds, to see that it runs

It needs Python 3.11 or 3.12, torch, transformers (5.17 or later), numpy, scipy, scikit-learn, pandas, safetensors,
jaxtyping and tqdm, none of our other requirements, and nothing from the internet: networks of 1B and 7B parameters are
drawn at random on the device. Every part has a time limit; a part that fails prints its traceback, and the others go
on. The table is printed; ``--out`` gets it as JSON after every part, with the lines that the time of each piece of work
goes to.
"""

import argparse
import gc
import json
import os
import platform
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "0")

import torch

from tests.bench.gpu_engine import Where, check_exactness, compare_attention, compare_rates, compare_steering
from tests.bench.gpu_reading import compare_extraction, compare_nhsic, measure_probes
from tests.bench.table import Comparison, as_markdown, machine


@dataclass(frozen=True)
class Sizes:
    """What is measured: shapes of ``SHAPES``, and how much of each."""

    exact: str
    shapes: tuple[str, str]
    counts: tuple[int, ...]
    tokens: int
    steering_seconds: float
    statements: int
    d_model: int
    probes_goal: float
    patience: float = 1.0
    """By which the parts' time limits are multiplied."""


SIZES = {
    "large": Sizes("exact", ("1b", "7b"), (1, 16, 64), 36, 10.0, 1200, 4096, 2.0),
    "small": Sizes("small", ("small", "small"), (1, 4), 8, 0.1, 60, 16, 60.0, patience=20),
}

Part = tuple[float, Callable[[], Iterator[Comparison]]]
"""Seconds that it may take, and the rows that it gives one by one."""


def parts_of(sizes: Sizes, device: str, where: Where) -> dict[str, Part]:
    little, large = sizes.shapes
    rates = partial(compare_rates, device=device, counts=sizes.counts, tokens=sizes.tokens, where=where)
    costs = partial(compare_steering, device=device, count=sizes.counts[-1], tokens=16, seconds=sizes.steering_seconds)
    n, width = sizes.statements, sizes.d_model
    parts: dict[str, Part] = {
        "exact": (50, partial(check_exactness, sizes.exact, device, sizes.tokens)),
        "engine": (80, partial(rates, large)),
        "engine of a little model": (60, partial(rates, little)),
        "steering": (60, partial(costs, large)),
        "steering a little model": (50, partial(costs, little)),
        "attention": (10, partial(compare_attention, large, device, sizes.counts[-1], 192)),
        "attention of a little model": (10, partial(compare_attention, little, device, sizes.counts[-1], 192)),
        "extraction": (40, partial(compare_extraction, large, device, n, where)),
        "probes": (40, partial(measure_probes, device, n, width, sizes.probes_goal, where)),
        "nhsic": (40, partial(compare_nhsic, device, n, width)),
    }
    return {name: (limit * sizes.patience, rows_of) for name, (limit, rows_of) in parts.items()}


@dataclass
class Outcome:
    """Of one part."""

    rows: list[Comparison]
    seconds: float
    error: str = ""


def run_part(part: Part) -> Outcome:
    limit, rows_of = part
    rows: list[Comparison] = []
    began = time.perf_counter()
    try:
        with time_limit(limit):
            for row in rows_of():
                print(f"  {row.what}: {row.measured}, {row.against}: {row.ratio} {row.wanted}", flush=True)
                rows.append(row)
        error = ""
    except Exception:  # what other parts measure is not to be lost
        error = traceback.format_exc()
        print(error, file=sys.stderr, flush=True)
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return Outcome(rows, time.perf_counter() - began, error)


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise ``TimeoutError`` in the block when it is open for so long."""

    def stop(*_: object) -> None:
        raise TimeoutError(f"not done within {seconds:g} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def as_json(outcomes: Mapping[str, Outcome], where: Where) -> dict[str, Any]:
    return {
        "machine": {**machine(), "python": platform.python_version()},
        "parts": {
            name: {
                "seconds": round(outcome.seconds, 1),
                "error": outcome.error,
                "rows": [{**asdict(row), "met": row.met} for row in outcome.rows],
            }
            for name, outcome in outcomes.items()
        },
        "where": where,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda", help="[%(default)s]")
    parser.add_argument("--shapes", choices=sorted(SIZES), default="large", help="[%(default)s]")
    parser.add_argument("--parts", default="all", help="names separated by commas [%(default)s]")
    parser.add_argument("--out", type=Path, help="a file that gets everything as JSON")
    given = parser.parse_args(arguments)
    where: Where = {}
    parts = parts_of(SIZES[given.shapes], given.device, where)
    chosen = list(parts) if given.parts == "all" else given.parts.split(",")
    if unknown := sorted(set(chosen) - set(parts)):
        parser.error(f"parts {', '.join(unknown)} do not exist; choose from {', '.join(parts)}")
    print(json.dumps(machine()), flush=True)
    outcomes: dict[str, Outcome] = {}
    for name in chosen:
        print(f"measuring {name} …", flush=True)
        outcomes[name] = run_part(parts[name])
        if given.out is not None:
            given.out.write_text(json.dumps(as_json(outcomes, where), indent=1))
    print(as_markdown([row for outcome in outcomes.values() for row in outcome.rows]))
    print(", ".join(f"{name} {outcome.seconds:.0f} s" for name, outcome in outcomes.items()))
    failed = [name for name, outcome in outcomes.items() if outcome.error]
    if failed:
        print(f"parts {', '.join(failed)} could not be measured, for the reasons above", file=sys.stderr)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
