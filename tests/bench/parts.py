"""The parts of `make bench`, each measured in a process of its own."""

import argparse
from collections.abc import Callable, Mapping

from pipelines.cli.command import keep_freed_memory
from tests.bench.champions import compare_champions
from tests.bench.engine import compare_engine
from tests.bench.extras import compare_extras
from tests.bench.information import compare_information
from tests.bench.over_http import compare_http
from tests.bench.peers import compare_peers
from tests.bench.probing import compare_nested, compare_tracking, compare_with_the_paper
from tests.bench.table import Comparison
from tests.bench.vllm import compare_vllm

PARTS = "probing", "information", "engine", "extras", "peers", "vllm", "http", "tracking", "nested", "champions"
LONG = ("champions",)
"""Parts that are measured where they are named."""
COMMANDS = ("probing", "information", "nested")
"""Parts that do what commands do, whose processes keep the memory that they free."""


def measured(part: str, given: argparse.Namespace) -> list[Comparison]:
    """The rows of one part, in the process that it has for itself."""
    if part in COMMANDS:
        keep_freed_memory()
    parts: Mapping[str, Callable[[], list[Comparison]]] = {
        "probing": lambda: [
            *compare_with_the_paper("tiny", "toxicity", 0),
            *compare_with_the_paper(given.model, "robustness", given.limit),
        ],
        "information": compare_information,
        "engine": lambda: compare_engine(given.model, given.rounds, given.pairs),
        "extras": lambda: compare_extras(given.model, max(1, given.pairs // 2)),
        "peers": lambda: compare_peers(given.model),
        "vllm": lambda: compare_vllm(given.model, given.rounds),
        "http": lambda: compare_http(given.model),
        "tracking": compare_tracking,
        "nested": lambda: [compare_nested()],
        "champions": lambda: compare_champions(given.model),
    }
    return parts[part]()
