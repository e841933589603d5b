from dataclasses import replace

import numpy as np
import pytest

from pipelines.statements.labelled import LabelledStatements
from registry.errors import InvalidInput


def statements(texts=("a", "b", "c", "d"), labels=(1, 0, 1, 0), groups=(0, 0, 1, 1), **others):
    return LabelledStatements(
        "toxicity", tuple(texts), np.array(labels, bool), np.array(groups, np.int64), "file:x.csv", **others
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"labels": (1, 1, 1, 1)}, "all statements .* label 1"),
        ({"labels": (1, 0)}, "4 texts, 2 labels"),
        ({"texts": ("a", " ", "c", "d")}, "1 empty statement, the first in row 1"),
        ({"texts": ("a", "a", "c", "d")}, "both labels to 1 text, such as 'a'"),
        ({"texts": (), "labels": (), "groups": ()}, "holds no statements"),
        ({"split": ("train", "test", "test", "test")}, "the split .* leaks: .* 1 group, such as that of 'a'"),
    ],
)
def test_what_cannot_be_probed_is_refused(changes, words):
    with pytest.raises(InvalidInput, match=words):
        statements(**changes)


def test_the_digest_tells_every_part_apart():
    digests = {
        statements().digest,
        statements(texts=("a", "b", "c", "e")).digest,
        statements(labels=(0, 1, 1, 0)).digest,
        statements(groups=(0, 1, 1, 1)).digest,
        statements(split=("train", "train", "test", "test")).digest,
    }
    for changes in ({"dimension": "privacy"}, {"source": "file:y.csv"}, {"subgroups": np.arange(4)}):
        digests.add(replace(statements(), **changes).digest)
    assert len(digests) == 8
    assert statements().digest == statements().digest


def test_digests_of_earlier_versions_are_recognised():
    """As vectors and calibrations have them that were registered before dimension and source entered."""
    earlier = "d8a836e778b692251c8afb391fc4410590868833a0231a5e9b128fc04539871b"
    assert statements().has_digest(earlier)
    assert not statements(labels=(0, 1, 0, 1)).has_digest(earlier)


def test_a_copy_under_another_name_is_the_same_statements():
    copy = replace(statements(), source="file:copy.csv")
    digest = statements().digest
    assert copy.has_digest(digest, statements().source)
    assert not copy.has_digest(digest)
    assert not replace(copy, labels=~copy.labels).has_digest(digest, statements().source)


def test_a_subset_keeps_groups_whole_and_the_order():
    many = statements(
        texts=[f"t{row}" for row in range(100)], labels=np.tile([1, 0], 50), groups=np.repeat(np.arange(25), 4)
    )
    some = many.subset(20, seed=0)
    assert some.n == 20
    assert all(count == 4 for count in np.unique(some.groups, return_counts=True)[1])
    assert list(some.texts) == sorted(some.texts, key=lambda text: int(text[1:]))
    assert many.subset(0, seed=0) is many
    assert many.subset(1000, seed=0) is many
