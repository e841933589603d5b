import pytest

from registry.counts import counted


@pytest.mark.parametrize(
    ("n", "noun", "plural", "written"),
    [
        (1, "checkpoint", "", "1 checkpoint"),
        (0, "checkpoint", "", "0 checkpoints"),
        (1600, "held-out answer", "", "1,600 held-out answers"),
        (2, "city", "cities", "2 cities"),
        (1, "city", "cities", "1 city"),
    ],
)
def test_a_noun_follows_its_number(n, noun, plural, written):
    assert counted(n, noun, plural) == written
