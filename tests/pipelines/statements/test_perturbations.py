import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.statements.perturbations import PERTURBATIONS, misspellings

SENTENCE = "The quick brown foxes jumped over several lazy dogs yesterday."


@given(st.text(alphabet=st.characters(codec="ascii"), max_size=80), st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_any_text_can_be_perturbed_and_the_seed_decides(text, seed):
    for perturb in PERTURBATIONS.values():
        assert perturb(text, np.random.default_rng(seed)) == perturb(text, np.random.default_rng(seed))


def perturbed(name, seed=0):
    return PERTURBATIONS[name](SENTENCE, np.random.default_rng(seed))


def test_swaps_keep_every_word_and_both_ends():
    swapped = perturbed("word-swaps")
    assert swapped != SENTENCE
    assert sorted(swapped.split()) == sorted(SENTENCE.split())
    assert (swapped.split()[0], swapped.split()[-1]) == ("The", "yesterday.")


def test_a_repetition_adds_a_word_that_is_there_already():
    words = perturbed("word-repetitions").split()
    assert len(words) == len(SENTENCE.split()) + 1
    assert any(one == other for one, other in itertools.pairwise(words))


def test_a_typo_in_the_last_word_changes_one_inner_letter_of_it():
    for seed in range(20):
        changed = perturbed("last-word-typos", seed)
        places = [place for place, (one, other) in enumerate(zip(SENTENCE, changed, strict=True)) if one != other]
        assert len(places) == 1
        start = SENTENCE.index("yesterday")
        assert start < places[0] < start + len("yesterday") - 1
    assert PERTURBATIONS["last-word-typos"]("It is so.", np.random.default_rng(0)) == "It is so."


@pytest.mark.parametrize("name", ["keyboard-typos", "letter-transpositions"])
def test_typing_errors_spare_first_and_last_letters_and_lengths(name):
    for seed in range(10):
        for one, other in zip(SENTENCE.split(), perturbed(name, seed).split(), strict=True):
            assert len(one) == len(other)
            assert one[0] == other[0]


def test_misspellings_are_those_that_people_make(rng):
    assert "recieve" in misspellings()["receive"]
    text = "They receive their necessary separate letters"
    changed = {PERTURBATIONS["misspellings"](text, np.random.default_rng(seed)) for seed in range(20)}
    assert changed != {text}
    for one in changed:
        assert len(one.split()) == len(text.split())
        assert all(
            new == old or new.lower() in misspellings()[old.lower()]
            for new, old in zip(one.split(), text.split(), strict=True)
        )


def test_case_flips_come_at_their_rate(rng):
    flipped = PERTURBATIONS["case-flips"]("a" * 10_000, rng)
    assert sum(letter == "A" for letter in flipped) == pytest.approx(500, abs=80)
