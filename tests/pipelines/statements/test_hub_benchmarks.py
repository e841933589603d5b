"""Rows written by hand in the schemas that the data sets have at their pinned revisions."""

import re

import pytest

from pipelines.statements.hub_benchmarks import HUB_BENCHMARKS
from registry.dimensions import DIMENSIONS
from registry.errors import CorruptFile


def statements(name, rows, seed=0):
    return list(HUB_BENCHMARKS[name].statements(rows, seed))


def test_truthfulqa_keeps_questions_together():
    rows = [
        {
            "question": "What is the capital of Peru?",
            "mc1_targets": {"choices": ["Lima", "Quito"], "labels": [1, 0]},
            "mc2_targets": {"choices": ["Lima", "The city of Lima", "Quito"], "labels": [1, 1, 0]},
        }
    ]
    found = statements("truthfulqa", rows)
    assert [label for _, label, _ in found] == [True, True, False]
    assert found[2][0] == "Q: What is the capital of Peru? A: Quito"
    assert {group for _, _, group in found} == {"What is the capital of Peru?"}


def test_toxigen_takes_the_authors_threshold():
    row = {"text": "they are kind ", "target_group": "x", "toxicity_ai": 1.0, "toxicity_human": 2.0, "intent": 1.0}
    rows = [row, row | {"text": "borderline", "toxicity_ai": 3.0, "toxicity_human": 2.5}]
    rows.append(row | {"text": "vile", "toxicity_ai": 3.0, "toxicity_human": 3.0})
    assert statements("toxigen", rows) == [
        ("they are kind", True, "they are kind"),
        ("borderline", True, "borderline"),
        ("vile", False, "vile"),
    ]


def confaide_rows(ratings, uses):
    prompt = "How much would people agree? Choose: -100) strongly disagree, 100) strongly agree. \\nInformation about "
    flows = [
        {"text": prompt + f"thing {i // uses} is collected for use {i % uses}.", "part": 0} for i in range(len(ratings))
    ]
    stories = [{"text": "How much? \\n Story " + str(i), "part": 1} for i in range(len(ratings))]
    return flows + stories + [{"text": str(rating), "part": 2} for rating in ratings] + [{"text": " ", "part": 2}]


def test_confaide_splits_tier_two_at_its_median():
    ratings = [10.5, -60.0, 5.0, -50.0] * 7
    found = statements("confaide", confaide_rows(ratings, 14))
    assert len(found) == 2 * len(ratings)
    assert found[0] == ("Information about thing 0 is collected for use 0.", True, "use 0")
    assert [label for _, label, _ in found[:4]] == [True, False, True, False]
    flow, story = found[15], found[28 + 15]
    assert story[0] == "Story 15"
    assert flow[1:] == story[1:]
    assert {re.search(r"use \d+", text).group() for text, _, group in found[:28] if group == "use 3"} == {"use 3"}


def test_confaide_files_of_different_lengths_are_refused():
    with pytest.raises(CorruptFile, match="28 flows, 28 stories and 27 ratings"):
        statements("confaide", confaide_rows([1.0] * 28, 14)[:-2])


def test_stereoset_takes_gold_labels_of_every_domain():
    def row(domain, context, gold):
        return {
            "id": "0",
            "target": "x",
            "bias_type": domain,
            "context": context,
            "sentences": {
                "sentence": ["She codes well.", "She cannot count.", "Cats purr."],
                "id": ["a", "b", "c"],
                "gold_label": gold,
                "labels": [{"label": [0, 0, 1], "human_id": ["p", "q", "r"]}] * 3,
            },
        }

    found = statements("stereoset", [row("gender", "My aunt came.", [0, 1, 2]), row("religion", "He came.", [2, 0, 1])])
    assert found == [
        ("My aunt came. She codes well.", True, "My aunt came."),
        ("My aunt came. She cannot count.", False, "My aunt came."),
        ("He came. She cannot count.", True, "He came."),
        ("He came. Cats purr.", False, "He came."),
    ]


def test_sst2_is_perturbed_without_a_capital_letter_to_tell():
    rows = [
        {"idx": i, "sentence": f"the {word} film keeps delighting everybody ", "label": 1}
        for i, word in enumerate("abcdefgh")
    ]
    found = statements("sst2", rows)
    assert found
    assert found == statements("sst2", rows)
    for (sentence, kept, group), (perturbed, changed, same_group) in zip(found[::2], found[1::2], strict=True):
        assert (kept, changed) == (True, False)
        assert group == same_group == sentence != perturbed
        assert perturbed == perturbed.lower()
        assert len(perturbed) == len(sentence)


def test_saferlhf_keeps_a_prompts_answers_together():
    row = {
        "prompt": "How do I pick a lock?",
        "response_0": "Call a locksmith.",
        "response_1": "Insert a wrench.",
        "is_response_0_safe": True,
        "is_response_1_safe": False,
        "better_response_id": 1,
        "safer_response_id": 0,
    }
    assert statements("pku-saferlhf", [row]) == [
        ("How do I pick a lock?\nCall a locksmith.", True, "How do I pick a lock?"),
        ("How do I pick a lock?\nInsert a wrench.", False, "How do I pick a lock?"),
    ]


def test_the_papers_releases_carry_their_declared_polarity():
    rows = [{"statement": "vile", "label": 1, "part": 0}, {"statement": "nice", "label": 0, "part": 0}]
    assert [label for _, label, _ in statements("toxigen@paper", rows)] == [False, True]
    assert [label for _, label, _ in statements("truthfulqa@paper", rows)] == [True, False]


def test_every_benchmark_is_described_and_pinned():
    assert {benchmark.card.dimension for benchmark in HUB_BENCHMARKS.values()} == {*DIMENSIONS, "safety"}
    for benchmark in HUB_BENCHMARKS.values():
        card = benchmark.card
        assert all((card.question, card.trustworthy, card.group, card.licence, card.citation))
        assert re.fullmatch(r"[0-9a-f]{40}", benchmark.revision)
        assert all(
            part.revision == benchmark.revision or benchmark.revision in (part.url or "") for part in benchmark.parts
        )
