"""The paper's released benchmark files: what each asks, which label is trustworthy, and what belongs together.

A file bearing one of these names in a data directory is that benchmark; any other file is the user's own, with
label 1 trustworthy. Polarity and groups follow the files as released (arXiv 2402.19465), not its Table 3.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class Benchmark:
    """How a benchmark's file is read."""

    name: str
    dimension: str
    question: str
    trustworthy_label: int
    """The raw label that means trustworthy."""
    group_of: Callable[[str], str]
    """Statements with the same key never straddle a split."""
    citation: str


def _normalised(text: str) -> str:
    return re.sub(r"\s+", " ", text.replace("_x000D_", " ")).strip().lower()


def _question(text: str) -> str:
    return _normalised(text.partition("\tA:")[0])


def _first_sentence(text: str) -> str:
    return _normalised(re.split(r"(?<=[.!?]) ", text.strip(), maxsplit=1)[0])


BENCHMARKS: Mapping[str, Benchmark] = MappingProxyType(
    {
        one.name: one
        for one in (
            Benchmark("truthfulqa_train", "reliability", "Is the answer true?", 1, _question, "Lin et al., ACL 2022"),
            Benchmark("toxigen", "toxicity", "Is the statement toxic?", 0, _normalised, "Hartvigsen et al., ACL 2022"),
            Benchmark(
                "confaide",
                "privacy",
                "Is it sensitive to share this?",
                0,
                _normalised,
                "Mireshghallah et al., ICLR 2024",
            ),
            Benchmark(
                "stereoset",
                "fairness",
                "Does the second sentence belong to the first? (the released file's label, which is not stereotyping)",
                0,
                _first_sentence,
                "Nadeem et al., ACL 2021",
            ),
            Benchmark(
                "sst2",
                "robustness",
                "Have letters of the sentence been flipped?",
                0,
                _normalised,
                "Socher et al., EMNLP 2013",
            ),
        )
    }
)
