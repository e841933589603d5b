"""Reading batches: how texts are laid out, so that cores run little that is padded and end together."""

import pytest

from pipelines.model_io import reading_batches as module
from tests.mutants import mutant


def layout_of(sequences, module=module, multiple=4):
    trees, layout = module._best_trees(sequences, 512, multiple)
    rows = [[len(trees[number].tokens) for number in some] for some in layout.passes]
    return [len(row) * max(row) for row in rows], {tuple(s[:n]) for s in sequences for n in range(1, len(s) + 1)}


def prose(rng, count=100):
    return [tuple(rng.integers(0, 5000, size=rng.integers(8, 28)).tolist()) for _ in range(count)]


def pairs(rng, count=64):
    return [(*sentence, last) for sentence in prose(rng, count) for last in (1, 2)]


def check_layouts(rng, module=module):
    for texts, padding in ((prose(rng), 1.08), (pairs(rng), 1.08), (prose(rng, 900), 1.08)):
        passes, distinct = layout_of(texts, module)
        assert len(passes) % 4 == 0
        assert sum(passes) <= padding * len(distinct)
        assert len(passes) * max(passes) <= 1.12 * len(distinct)
        assert max(passes) <= 512


def test_passes_are_even_and_hardly_padded(rng):
    check_layouts(rng)


@pytest.mark.parametrize(
    "change",
    [
        ("key=lambda each: each[1].cost)", "key=lambda each: -each[1].cost)"),
        ("len(costs) * max(costs)", "min(costs)"),
        ("tried = TOKENS_PER_ROW if", "tried = TOKENS_PER_ROW[-1:] if"),
    ],
)
def test_a_mutant_lays_texts_out_worse(rng, change):
    with mutant(module, *change) as changed, pytest.raises(AssertionError):
        check_layouts(rng, changed)


def test_only_cores_are_given_more_passes_than_needed(rng):
    few = prose(rng, 20)
    assert [len(layout_of(few, multiple=multiple)[0]) for multiple in (1, 4)] == [1, 2]
