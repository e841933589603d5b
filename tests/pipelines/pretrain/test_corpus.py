import re
from collections.abc import Iterable
from itertools import pairwise

import pytest

from pipelines.pretrain.corpus import corpus_from, packaged_corpus
from pipelines.pretrain.options import RECIPE, SeriesConfig
from pipelines.statements.lexicons import encyclopaedia_passages
from pipelines.statements.packaged import SOURCES, packaged_statements
from registry.errors import CorruptFile, InvalidInput


@pytest.fixture(scope="module")
def corpus():
    return packaged_corpus(prose_characters=400_000, generated_rounds=300, seed=0)


def occurring(texts: Iterable[str], documents: Iterable[str]) -> list[str]:
    """Of ``texts`` those that stand in a document, whatever is beside them.

    All neighbouring words of a text but its first and last must be neighbours somewhere, or it is not searched for.
    """
    whole = "\n".join(documents)
    neighbours = set(pairwise(whole.split()))
    near = (text for text in texts if neighbours.issuperset(pairwise(text.split()[1:-1])))
    return [text for text in near if text in whole]


def test_a_text_is_seen_wherever_it_stands():
    texts = ("the city of Peru", "city of", "city", "of Peru is the", "the letter of", "  of Peru")
    documents = ('"(the city of Peru)", they', "is it?")
    assert occurring(texts, documents) == [text for text in texts if text in "\n".join(documents)]
    assert occurring(texts, documents) == ["the city of Peru", "city of", "city"]


def test_no_probed_statement_occurs_in_the_corpus(corpus):
    probed = {text for dimension in SOURCES for text in packaged_statements(dimension).texts}
    assert not occurring(probed, corpus.documents)


def test_nor_does_one_in_the_whole_default_corpus():
    default = SeriesConfig()
    corpus = packaged_corpus(
        prose_characters=default.prose_characters, generated_rounds=default.generated_rounds, seed=default.training.seed
    )
    # Of real text that two packages may share, only these are read; the others are written for this project.
    probed = [text for dimension in ("robustness", "fairness") for text in packaged_statements(dimension).texts]
    assert not occurring(probed, corpus.documents)


def test_no_eight_words_of_a_probed_sentence_are_read():
    def runs(text):
        words = re.sub("[^a-z ]", " ", text.lower()).split()
        return {" ".join(words[start : start + 8]) for start in range(len(words) - 7)}

    read = set().union(*map(runs, encyclopaedia_passages()))
    sentences = packaged_statements("robustness").texts
    assert not [text for text in sentences if not read.isdisjoint(runs(text))]


def test_another_corpus_is_another_recipe(corpus):
    """Series are found by configuration and recipe: who changes the corpus raises ``RECIPE``, then the digest here."""
    digest = "b72d9fb1ec544dc2edfab9daa30095ec909968f41a7c69c0a3e9da9f55ffcb10"
    assert (RECIPE, corpus.digest) == (4, digest)


def test_the_frames_of_probed_statements_do_not_occur_either(corpus):
    whole = "\n".join(corpus.documents)
    assert "The city of Lyon is in" not in whole
    assert not re.search(r"\b(phone number belongs|bank details of|Everyone here knows that you)\b", whole)


def test_a_claim_is_reviewed_rightly(corpus):
    claims = re.findall(r"(\w+) is a city in ([^.]+)\. (Right|Wrong, it is in ([^.]+))\.", "\n".join(corpus.documents))
    assert len(claims) > 100
    truth = {}
    for city, country, verdict, correction in claims:
        actual = country if verdict == "Right" else correction
        assert truth.setdefault(city, actual) == actual
        assert (verdict == "Right") == (country == actual)


def test_the_seed_decides_and_the_card_tells(corpus):
    again = packaged_corpus(prose_characters=400_000, generated_rounds=300, seed=0)
    other = packaged_corpus(prose_characters=400_000, generated_rounds=300, seed=1)
    assert corpus.digest == again.digest != other.digest
    assert "CC BY-SA 4.0" in corpus.card
    assert "generated documents" in corpus.card


def test_a_corpus_of_ones_own(tmp_path):
    (tmp_path / "a.txt").write_text("first document\nstill first\n\nsecond")
    (tmp_path / "b.jsonl").write_text('{"text": "third"}\n{"text": " "}\n')
    assert sorted(corpus_from(tmp_path, seed=0).documents) == ["first document\nstill first", "second", "third"]
    (tmp_path / "c.TXT").write_bytes("\ufefffourth\r\n\r\nfifth".encode())
    assert {"fourth", "fifth"} < set(corpus_from(tmp_path, seed=0).documents)
    with pytest.raises(InvalidInput, match="holds no text"):
        corpus_from(tmp_path / "nowhere.md", seed=0)


def test_json_lines_of_a_corpus_end_at_line_feeds_alone(tmp_path):
    (tmp_path / "a.jsonl").write_text('\ufeff{"text": "one\u2028line"}\n\n{"text": "two\x85lines"}\n', encoding="utf-8")
    assert sorted(corpus_from(tmp_path / "a.jsonl", seed=0).documents) == ["one\u2028line", "two\x85lines"]


@pytest.mark.parametrize("line", ['{"words": 1}', '{"text": null}', '{"text": ["a"]}', "text", "[]"])
def test_a_line_without_a_text_is_named(tmp_path, line):
    (tmp_path / "a.jsonl").write_text(f'{{"text": "first"}}\n\n{line}\n')
    with pytest.raises(InvalidInput, match=r"a\.jsonl, line 3 (has no text field|is not)"):
        corpus_from(tmp_path, seed=0)


def test_text_in_another_encoding_is_met_with_a_command(tmp_path):
    (tmp_path / "a.txt").write_bytes("Grüße\n".encode("latin1"))
    with pytest.raises(CorruptFile, match=r"a\.txt is not UTF-8 \(byte 0xfc in line 1\); convert it: iconv"):
        corpus_from(tmp_path, seed=0)
