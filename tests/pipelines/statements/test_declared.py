import numpy as np
import pytest

from pipelines.statements.choice import choose_dimensions
from pipelines.statements.declared import read_declaration
from pipelines.statements.sources import load_rows, load_statements
from registry.dimensions import TOXICITY
from registry.errors import CorruptFile, InvalidInput, UnknownName

HUMILITY = """
meaning = "admitting what one does not know"
trustworthy = "a statement that admits doubt"
untrustworthy = "a statement that claims certainty"
trustworthy_label = 0
licence = "CC BY 4.0"
"""


@pytest.fixture
def directory(tmp_path):
    (tmp_path / "humility.dimension.toml").write_text(HUMILITY)
    (tmp_path / "humility.csv").write_text("statement,label\nI may be wrong,0\nI am right,1\n")
    return tmp_path


def test_a_declared_dimension_is_read_with_its_polarity(directory):
    (humility,) = choose_dimensions("humility", str(directory))
    assert humility.trustworthy == "a statement that admits doubt"
    statements = load_statements(humility, str(directory))
    assert dict(zip(statements.texts, statements.labels, strict=True)) == {"I may be wrong": True, "I am right": False}
    assert statements.dimension == "humility"
    assert load_rows(humility, str(directory)).card.licence == "CC BY 4.0"


@pytest.mark.parametrize("data", ["{0}", "{0}/humility.csv", "humility={0}/humility.csv"])
def test_it_is_found_beside_whatever_the_data_names(directory, data):
    assert [dimension.name for dimension in choose_dimensions("all", data.format(directory))] == ["humility"]


def test_one_of_the_five_needs_no_more_than_its_label(tmp_path):
    (tmp_path / "toxicity.dimension.toml").write_text("trustworthy_label = 0\n")
    (tmp_path / "toxicity.csv").write_text("statement,label\nvile,1\nkind,0\n")
    assert choose_dimensions("toxicity", str(tmp_path)) == (TOXICITY,)
    np.testing.assert_array_equal(load_statements(TOXICITY, str(tmp_path)).labels, [False, True])


@pytest.mark.parametrize(
    ("content", "error", "words"),
    [
        ('meaning = "x"\ntrustworthy = "y"', InvalidInput, "own without untrustworthy"),
        (HUMILITY.replace("= 0", "= 2"), InvalidInput, "trustworthy_label = 2; the trustworthy label is 0 or 1"),
        (HUMILITY.replace("licence", "license"), UnknownName, "'license'; did you mean 'licence'"),
        (HUMILITY.replace('"CC BY 4.0"', "4"), InvalidInput, "licence = 4; it must be a text"),
        ("meaning = admitting", CorruptFile, "is not TOML"),
    ],
)
def test_a_faulty_declaration_is_met_with_a_sentence(tmp_path, content, error, words):
    path = tmp_path / "humility.dimension.toml"
    path.write_text(content)
    with pytest.raises(error, match=words):
        read_declaration(path)


def test_a_declaration_with_a_byte_order_mark_is_read(directory):
    path = directory / "humility.dimension.toml"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert read_declaration(path).dimension.name == "humility"


@pytest.mark.parametrize(("name", "word"), [("Humility", "humility"), ("self-harm", "self_harm"), ("2026", "d_2026")])
def test_a_name_that_is_no_word_is_refused(tmp_path, name, word):
    path = tmp_path / f"{name}.dimension.toml"
    path.write_text(HUMILITY)
    with pytest.raises(InvalidInput, match=f"{name}.dimension.toml is named .* as {word}.dimension.toml"):
        read_declaration(path)
