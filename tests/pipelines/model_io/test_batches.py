"""Batches of about equal size, for cores that take one each."""

import numpy as np
import pytest

from pipelines.model_io import batches as module
from tests.mutants import mutant


def check_batches(rng, module=module):
    for n in (1, 2, 3, 7, 30, 200):
        for limit in (8, 64, 512):
            for multiple in (1, 4):
                check(rng.integers(1, 60, size=n).tolist(), limit, multiple, module)


def check(lengths, limit, multiple, module):
    greedy = list(module.batches(lengths, limit))
    found = module.even_batches(lengths, limit, multiple)
    assert sorted(np.concatenate(found).tolist()) == list(range(len(lengths)))
    longest = [lengths[row] for batch in found for row in batch]
    assert longest == sorted(longest, reverse=True)
    sizes = [len(batch) * lengths[batch[0]] for batch in found]
    assert all(size <= limit or len(batch) == 1 for size, batch in zip(sizes, found, strict=True))
    wanted = len(greedy) if multiple == 1 else 2 if len(greedy) <= 2 else -(-len(greedy) // multiple) * multiple
    assert len(found) <= wanted
    # No smaller largest batch would do with as many.
    assert max(sizes) == min(
        max(len(batch) * lengths[batch[0]] for batch in cut)
        for cut in (list(module.batches(lengths, size)) for size in range(1, limit + 1))
        if len(cut) <= wanted
    )


def test_batches_are_as_even_as_so_many_can_be(rng):
    check_batches(rng)


@pytest.mark.parametrize(
    "change",
    [
        ("bisect_left(range(tokens_per_batch), -wanted, lo=1,", "bisect_left(range(tokens_per_batch), -fewest, lo=1,"),
        ("-wanted, lo=1,", "-wanted - 1, lo=1,"),
        ("[order[lot] for lot", "[lot for lot"),
        ("min(multiple, 2) if fewest", "multiple if fewest"),
    ],
)
def test_a_mutant_is_less_even(rng, change):
    with mutant(module, *change) as changed, pytest.raises(AssertionError):
        check_batches(rng, changed)
