"""The ratios that the README quotes, measured side by side in one run: `make bench`.

Run it on an otherwise idle machine. Each part has a process of its own, for threads that one leaves behind slow the
next. It prints one table and logs it to MLflow, experiment trusttrace-bench.
"""

import argparse
import sys
import traceback
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from serving.waiting import BRIEF_SPINS, choose_waiting

choose_waiting(BRIEF_SPINS)  # as a service does, before torch is imported

from pipelines.cli.command import run_command
from registry.errors import InvalidInput
from tests.bench.parts import LONG, PARTS, measured
from tests.bench.table import EXPERIMENT, as_markdown, log_to_mlflow


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="smollm2", help="what is served and swept beside `tiny` [%(default)s]")
    parser.add_argument("--limit", type=int, default=600, help="statements of its comparison [%(default)s]")
    parser.add_argument("--rounds", type=int, default=4, help="of the engine's rates [%(default)s]")
    parser.add_argument("--pairs", type=int, default=80, help="of what steering costs [%(default)s]")
    parser.add_argument(
        "--parts",
        default="all",
        help="names separated by commas; all but champions, which takes half an hour by itself [%(default)s]",
    )
    given = parser.parse_args()
    chosen = [name for name in PARTS if name not in LONG] if given.parts == "all" else given.parts.split(",")
    if unknown := set(chosen) - set(PARTS):
        raise InvalidInput(f"parts {', '.join(sorted(unknown))} do not exist; choose from {', '.join(PARTS)}")
    rows, failed = [], []
    for name in chosen:
        print(f"measuring {name} …", file=sys.stderr, flush=True)
        try:
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as alone:
                found = alone.submit(measured, name, given).result()
        except Exception:  # what other parts measured in half an hour is not to be lost
            traceback.print_exc()
            failed.append(name)
            continue
        for row in found:
            print(f"  {row.what}: {row.measured}, {row.against}: {row.ratio} {row.wanted}", file=sys.stderr, flush=True)
        rows += found
    print(as_markdown(rows))
    if rows:
        print(f"MLflow: experiment {EXPERIMENT}, run {log_to_mlflow(rows)}")
    if failed:
        raise InvalidInput(f"parts {', '.join(failed)} could not be measured, for the reasons above")


if __name__ == "__main__":
    sys.exit(run_command(lambda _: main()))
