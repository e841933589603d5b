import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.statements.benchmarks import DatasetCard
from pipelines.statements.rows import kept_rows, rows_of
from registry.errors import InvalidInput

CARD = DatasetCard(
    name="x", dimension="toxicity", question="?", trustworthy="kind", group="text", licence="none", citation="nobody"
)


def test_conflicts_are_refused_or_dropped_as_asked():
    triples = [("kind", True, "a"), ("odd", True, "b"), ("odd", False, "b"), ("vile", False, "c"), ("kind", True, "a")]
    with pytest.raises(InvalidInput, match="both labels to 1 text, such as 'odd'"):
        rows_of(triples, "x", CARD).statements()
    statements = rows_of(triples, "x", CARD, conflicts="drop").statements()
    assert statements.texts == ("kind", "vile")
    assert list(statements.labels) == [True, False]


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.booleans()), min_size=1, max_size=30))
@settings(max_examples=50, deadline=None)
def test_kept_rows_have_one_label_once(pairs):
    texts, labels = tuple(text for text, _ in pairs), np.array([label for _, label in pairs])
    kept = kept_rows(texts, labels)
    meanings = {text: {label for other, label in pairs if other == text} for text in texts}
    assert {texts[row] for row in kept} == {text for text, found in meanings.items() if len(found) == 1}
    assert len({texts[row] for row in kept}) == len(kept)
    assert all(texts.index(texts[row]) == row for row in kept)
