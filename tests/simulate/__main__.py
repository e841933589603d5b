"""Simulations on data whose truth is known: ``python -m tests.simulate [topic …]`` prints one Markdown table.

They rerun every error rate, coverage and power that the documentation quotes; the fast versions are tests.
"""

import argparse
import time

import torch

from tests.simulate import checkpoints, intervals, phases, selection
from tests.simulate.table import header, render

TOPICS = {
    "intervals": intervals.rows,
    "phases": phases.rows,
    "checkpoints": checkpoints.rows,
    "selection": selection.rows,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("topics", nargs="*", choices=[[], *TOPICS], default=[], metavar="topic", help=", ".join(TOPICS))
    parser.add_argument("--scale", type=float, default=0.7, help="of the number of draws [%(default)s]")
    options = parser.parse_args()
    torch.set_num_threads(1)
    started = time.perf_counter()
    print(header())
    for topic in options.topics or TOPICS:
        for line in render(TOPICS[topic](options.scale)):
            print(line, flush=True)
    print(f"\n{time.perf_counter() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
