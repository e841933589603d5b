"""Hub benchmarks as the field uses them: where each lies, at which revision, and how its rows become statements.

Each revision is a commit that public code pins or the hub's own pages show. The plain name is the sound construction;
``<name>@paper`` is the file that the authors of arXiv 2402.19465 released, with the faults its card names.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from types import MappingProxyType
from typing import Any

import numpy as np
from huggingface_hub import constants

from pipelines.statements.benchmarks import BENCHMARKS, Benchmark, DatasetCard
from pipelines.statements.declared import SAFETY
from pipelines.statements.perturbations import keyboard_typos
from pipelines.statements.rows import Row
from registry.counts import counted
from registry.errors import CorruptFile

RawRow = Mapping[str, Any]


@dataclass(frozen=True)
class Part:
    """One table to download: a split of a hub data set, or a file elsewhere at a fixed commit."""

    path: str
    """Repository on the hub, or a file format (``csv``, ``text``) where ``url`` is given."""
    split: str = "train"
    config: str | None = None
    revision: str | None = None
    url: str | None = None

    @property
    def address(self) -> str:
        return self.url or f"{constants.ENDPOINT}/datasets/{self.path}"


@dataclass(frozen=True)
class HubBenchmark:
    """A benchmark that is downloaded, verified by its size, and kept."""

    card: DatasetCard
    revision: str
    parts: tuple[Part, ...]
    statements: Callable[[Sequence[RawRow], int], Iterator[Row]]
    """From raw rows (with ``part``, the position of their table) and a seed to statements."""
    n_rows: int | None
    """Rows of all parts together, where known for certain."""


def truthfulqa_statements(rows: Sequence[RawRow], seed: int) -> Iterator[Row]:
    """Every candidate answer of the multiple-choice task with several true ones (MC2)."""
    del seed
    for row in rows:
        targets = row["mc2_targets"]
        for choice, true in zip(targets["choices"], targets["labels"], strict=True):
            yield f"Q: {row['question'].strip()} A: {choice.strip()}", bool(true), row["question"]


def toxigen_statements(rows: Sequence[RawRow], seed: int) -> Iterator[Row]:
    """Sentences read by people; toxic where their two ratings (1 to 5) sum to more than 5.5, the authors' own rule."""
    del seed
    for row in rows:
        toxic = row["toxicity_human"] + row["toxicity_ai"] > 5.5
        yield row["text"].strip(), not toxic, row["text"].strip().lower()


USES = 14
"""Tier 2 crosses kinds of information with this many uses (who collects it, what for); uses vary fastest."""


def confaide_statements(rows: Sequence[RawRow], seed: int) -> Iterator[Row]:
    """Tier 2, plain (2a) and as a story (2b); trustworthy where people's mean rating is above the tier's median.

    Few flows are welcome in absolute terms, so the question is which of them people mind less.
    """
    del seed
    lines: dict[int, list[str]] = defaultdict(list)
    for row in rows:
        if row["text"].strip():
            lines[row["part"]].append(row["text"].rpartition("\\n")[2].strip())
    flows, stories, ratings = lines[0], lines[1], [float(line) for line in lines[2]]
    if not len(flows) == len(stories) == len(ratings):
        raise CorruptFile(
            f"ConfAIde has {counted(len(flows), 'flow')}, "
            f"{counted(len(stories), 'story', 'stories')} and {counted(len(ratings), 'rating')}"
        )
    middle = median(ratings)
    for texts in (flows, stories):
        for index, (text, rating) in enumerate(zip(texts, ratings, strict=True)):
            yield text, rating > middle, f"use {index % USES}"


ANTI_STEREOTYPE, STEREOTYPE = 0, 1


def stereoset_statements(rows: Sequence[RawRow], seed: int) -> Iterator[Row]:
    """Context and continuation, stereotypical or against the stereotype by gold label; unrelated ones are left out."""
    del seed
    for row in rows:
        sentences = row["sentences"]
        for sentence, gold in zip(sentences["sentence"], sentences["gold_label"], strict=True):
            if gold in (ANTI_STEREOTYPE, STEREOTYPE):
                yield f"{row['context'].strip()} {sentence.strip()}", gold == ANTI_STEREOTYPE, row["context"]


def sst2_statements(rows: Sequence[RawRow], seed: int) -> Iterator[Row]:
    """Each sentence as it stands and with keyboard typos; sentences too short for a typo are left out."""
    rng = np.random.default_rng(seed)
    for row in rows:
        sentence = row["sentence"].strip()
        perturbed = keyboard_typos(sentence, rng)
        if perturbed != sentence:
            yield sentence, True, sentence
            yield perturbed, False, sentence


def saferlhf_statements(rows: Sequence[RawRow], seed: int) -> Iterator[Row]:
    """Each prompt with each of its two answers."""
    del seed
    for row in rows:
        for answer in (0, 1):
            text = f"{row['prompt'].strip()}\n{row[f'response_{answer}'].strip()}"
            yield text, bool(row[f"is_response_{answer}_safe"]), row["prompt"]


def _on_hub(path: str, revision: str, *splits: str, config: str | None = None) -> tuple[Part, ...]:
    return tuple(Part(path, split, config, revision) for split in splits)


def _on_github(repository: str, commit: str, form: str, *paths: str) -> tuple[Part, ...]:
    return tuple(Part(form, url=f"https://raw.githubusercontent.com/{repository}/{commit}/{path}") for path in paths)


PAPER_COMMIT = "14d35b47a913fe3fe626bb2e6bd8381ad41881bf"


def _as_released(benchmark: Benchmark) -> HubBenchmark:
    def statements(rows: Sequence[RawRow], seed: int) -> Iterator[Row]:
        del seed
        for row in rows:
            text = str(row["statement"])
            yield text, int(row["label"]) == benchmark.trustworthy_label, benchmark.group_of(text)

    path = f"src/datasets/{benchmark.name}.csv"
    parts = _on_github("ChnQ/TracingLLM", PAPER_COMMIT, "csv", path)
    return HubBenchmark(benchmark, PAPER_COMMIT, parts, statements, benchmark.n_rows)


_TRUTHFULQA = "741b8276f2d1982aa3d5b832d3ee81ed3b896490"
_TOXIGEN = "ea082a8973a287097b17973343576e0c8da8eb3b"
_CONFAIDE = "dfe977e98d11bdb093adc5690e175b739350845d"
_STEREOSET = "bf6e7ce50491784d094fb7afe60a70ecccb89035"
_SST2 = "8d51e7e4887a4caaa95b3fbebbf53c0490b58bbb"
_SAFERLHF = "9421ffafec3fa40a1f1a7d567b4d525079477ecb"

_SOUND = (
    HubBenchmark(
        DatasetCard(
            name="truthfulqa",
            dimension="reliability",
            question="Is the answer true?",
            trustworthy="a question with a true answer",
            group="question",
            licence="Apache-2.0",
            citation="Lin, Hilton and Evans, ACL 2022",
        ),
        _TRUTHFULQA,
        _on_hub("truthfulqa/truthful_qa", _TRUTHFULQA, "validation", config="multiple_choice"),
        truthfulqa_statements,
        817,
    ),
    HubBenchmark(
        DatasetCard(
            name="toxigen",
            dimension="toxicity",
            question="Do people find the sentence toxic?",
            trustworthy="a benign sentence",
            group="text",
            licence="none declared on the hub; for research, by its authors' note",
            citation="Hartvigsen et al., ACL 2022",
        ),
        _TOXIGEN,
        _on_hub("toxigen/toxigen-data", _TOXIGEN, "train", "test", config="annotated"),
        toxigen_statements,
        8960 + 940,
    ),
    HubBenchmark(
        DatasetCard(
            name="confaide",
            dimension="privacy",
            question="Does this flow of information meet people's expectations?",
            trustworthy="a flow that people mind less than most of tier 2",
            group="use: who collects the information, and what for",
            licence="none declared in its repository",
            citation="Mireshghallah et al., ICLR 2024",
            caveat="tier 1 is ten phrases and tiers 3 and 4 are dialogues without labels, so tier 2 stands for all",
        ),
        _CONFAIDE,
        _on_github(
            "skywalker023/confaide",
            _CONFAIDE,
            "text",
            *(f"benchmark/{name}.txt" for name in ("tier_2a", "tier_2b", "tier_2_labels")),
        ),
        confaide_statements,
        None,
    ),
    HubBenchmark(
        DatasetCard(
            name="stereoset",
            dimension="fairness",
            question="Does the text repeat a stereotype?",
            trustworthy="the anti-stereotypical continuation",
            group="context",
            licence="CC BY-SA 4.0",
            citation="Nadeem, Bethke and Reddy, ACL 2021; inter-sentence, all four domains, gold labels",
        ),
        _STEREOSET,
        _on_hub("McGill-NLP/stereoset", _STEREOSET, "validation", config="intersentence"),
        stereoset_statements,
        2123,
    ),
    HubBenchmark(
        DatasetCard(
            name="sst2",
            dimension="robustness",
            question="Does the sentence have typos?",
            trustworthy="the sentence as it stands",
            group="sentence",
            licence="not stated on the hub",
            citation="Socher et al., EMNLP 2013",
        ),
        _SST2,
        _on_hub("stanfordnlp/sst2", _SST2, "validation"),
        sst2_statements,
        872,
    ),
    HubBenchmark(
        DatasetCard(
            name="pku-saferlhf",
            dimension=SAFETY.name,
            question="Is the answer safe?",
            trustworthy="a prompt with an answer judged safe",
            group="prompt",
            licence="CC BY-NC 4.0",
            citation="Ji et al., 2406.15513",
        ),
        _SAFERLHF,
        _on_hub("PKU-Alignment/PKU-SafeRLHF", _SAFERLHF, "test"),
        saferlhf_statements,
        None,
    ),
)

HUB_BENCHMARKS: Mapping[str, HubBenchmark] = MappingProxyType(
    {benchmark.card.name: benchmark for benchmark in _SOUND}
    | {f"{name.removesuffix('_train')}@paper": _as_released(released) for name, released in BENCHMARKS.items()}
)
