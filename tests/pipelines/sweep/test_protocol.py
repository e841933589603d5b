import pytest

from pipelines.sweep.protocol import FittingProtocol
from registry.errors import InvalidInput


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"protocol": "fair"}, "unknown protocol 'fair'; known: sound, paper"),
        ({"seeds": 0}, "seeds is 0"),
    ],
)
def test_wrong_protocols_are_refused(changes, words):
    with pytest.raises(InvalidInput, match=words):
        FittingProtocol(**changes)


def test_the_papers_protocol_has_one_split():
    assert FittingProtocol(protocol="paper", seeds=5).split_seeds == (0,)
    assert FittingProtocol(seeds=2).identity() != FittingProtocol(seeds=3).identity()
