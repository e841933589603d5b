import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.statements.perturbations import keyboard_typos, mistype_last_word, swapped_letters

SENTENCE = "The quick brown foxes jumped over several lazy dogs yesterday."


@pytest.mark.parametrize("perturb", [keyboard_typos, mistype_last_word, swapped_letters])
@given(text=st.text(alphabet=st.characters(codec="ascii"), max_size=80), seed=st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_any_text_can_be_perturbed_and_the_seed_decides(perturb, text, seed):
    assert perturb(text, np.random.default_rng(seed)) == perturb(text, np.random.default_rng(seed))


def test_a_typo_in_the_last_word_changes_one_inner_letter():
    for seed in range(20):
        perturbed = mistype_last_word(SENTENCE, np.random.default_rng(seed))
        changed = [index for index, (old, new) in enumerate(zip(SENTENCE, perturbed, strict=True)) if old != new]
        assert len(changed) == 1
        start = SENTENCE.index("yesterday")
        assert start < changed[0] < start + len("yesterday") - 1
    assert mistype_last_word("It is so.", np.random.default_rng(0)) == "It is so."


def test_typing_errors_spare_first_and_last_letters_and_lengths():
    for seed in range(10):
        for old, new in zip(
            SENTENCE.split(), keyboard_typos(SENTENCE, np.random.default_rng(seed)).split(), strict=True
        ):
            assert len(old) == len(new)
            assert old[0] == new[0]


def test_swapped_letters_keep_each_words_letters():
    for seed in range(10):
        swapped = swapped_letters(SENTENCE, np.random.default_rng(seed), rate=1.0)
        for old, new in zip(SENTENCE.split(), swapped.split(), strict=True):
            assert sorted(old) == sorted(new) and old[0] == new[0]
            assert (old != new) == (len(old.strip(".")) >= 4)
    assert swapped_letters("noon aaaa be", np.random.default_rng(0), rate=1.0) == "nono aaaa be"
    assert swapped_letters(SENTENCE, np.random.default_rng(0), rate=0.0) == SENTENCE
