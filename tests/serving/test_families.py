"""The table of families in serving/README.md, held to a few of them; tests/endurance/families.py tries all."""

import pytest

from tests.families import FAMILIES, documented, outcomes

TRIED = (
    "bert",
    "falcon",
    "gemma2",
    "gpt2",
    "gpt_neox",
    "lfm3",
    "llama",
    "mamba",
    "mistral",
    "olmo2",
    "pegasus",
    "qwen3",
)


def test_every_family_of_transformers_is_in_the_table():
    assert set(documented()) == set(FAMILIES)


@pytest.fixture(scope="module")
def found():
    return outcomes(TRIED)


@pytest.mark.parametrize("family", TRIED)
def test_the_table_says_what_becomes_of_a_family(found, family):
    assert documented()[family] == found[family].cells
