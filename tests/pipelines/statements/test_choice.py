import shlex
import subprocess
from pathlib import Path

import pytest

from pipelines.statements.choice import choose_dimensions
from pipelines.statements.declared import SAFETY
from pipelines.statements.mix import parse_mix
from pipelines.statements.sources import load_statements
from registry.dimensions import DIMENSIONS, TOXICITY
from registry.errors import InvalidInput, NotFound, UnknownName

ROWS = "statement,label\nI may be wrong,1\nI am right,0\n"
HUMILITY = 'meaning = "doubt"\ntrustworthy = "a doubt"\nuntrustworthy = "a certainty"\n'


@pytest.fixture
def directory(tmp_path):
    (tmp_path / "humility.csv").write_text(ROWS)
    (tmp_path / "humility.dimension.toml").write_text(HUMILITY)
    return tmp_path


def names(spec, data):
    return [dimension.name for dimension in choose_dimensions(spec, str(data))]


def test_one_file_is_the_dimension_of_its_name(directory):
    assert names("all", directory / "humility.csv") == ["humility"]
    (directory / "Toxicity.CSV").write_text(ROWS)
    assert choose_dimensions("all", str(directory / "Toxicity.CSV")) == (TOXICITY,)
    (directory / "toxigen.csv").write_text(ROWS)
    assert names("all", directory / "toxigen.csv") == ["toxicity"]


def test_a_mix_or_directory_is_what_it_has_data_for(directory):
    assert names("all", f"privacy=packaged,humility={directory / 'humility.csv'}") == ["privacy", "humility"]
    assert names("all", directory) == ["humility"]
    (directory / "stereoset.csv").write_text(ROWS)
    assert names("all", directory) == ["fairness", "humility"]
    (directory / "empty").mkdir()
    with pytest.raises(NotFound, match="has no statements for"):
        names("all", directory / "empty")


def test_packaged_and_hub_are_the_five_and_safety_when_named():
    assert names("all", "packaged") == names("all", "hub") == list(DIMENSIONS)
    assert choose_dimensions("safety,toxicity", "hub") == (SAFETY, TOXICITY)


@pytest.mark.parametrize("name", ["modesty", "my modesty 2", "2026-modesty", "礼貌"])
@pytest.mark.parametrize("form", ["{}", "modesty={}"])
def test_an_undeclared_file_is_refused_with_a_declaration_that_works(tmp_path, name, form):
    path = tmp_path / f"{name}.csv"
    path.write_text(ROWS)
    data = form.format(path)
    with pytest.raises(InvalidInput, match="is no known dimension") as refusal:
        choose_dimensions("all", data)
    sentence, command = str(refusal.value).split("\n", 1)
    subprocess.run(command, shell=True, check=True)
    again = (
        data
        if sentence.endswith("the same command again")
        else shlex.split(sentence.rpartition("give ")[2])[0].removeprefix("data=")
    )
    (dimension,) = choose_dimensions("all", again)
    assert load_statements(dimension, again).dimension == dimension.name


def test_one_file_for_two_dimensions_is_refused_unless_named_twice(directory):
    path = directory / "humility.csv"
    with pytest.raises(
        InvalidInput, match="one file and stands for one dimension, but dimensions names toxicity, priv"
    ):
        choose_dimensions("toxicity,privacy", str(path))
    (directory / "humility.dimension.toml").unlink()
    data = f"toxicity={path},privacy={path}"
    assert len({load_statements(dimension, data).digest for dimension in choose_dimensions("all", data)}) == 2


def test_unknown_names_are_met_with_the_nearest(directory):
    with pytest.raises(UnknownName, match="did you mean 'toxicity'"):
        choose_dimensions("toxcity", str(directory / "humility.csv"))
    with pytest.raises(UnknownName, match="unknown dimension 'modesty'"):
        choose_dimensions("all", "modesty=hub")


def test_a_file_declared_for_another_dimension_is_refused(directory):
    with pytest.raises(
        InvalidInput, match=r"humility\.dimension\.toml declares that humility\.csv stands for humility"
    ):
        load_statements(TOXICITY, str(directory / "humility.csv"))


def test_a_benchmarks_file_is_refused_for_another_dimension(directory):
    (directory / "toxigen.csv").write_text(ROWS)
    with pytest.raises(InvalidInput, match="name of a benchmark of toxicity, not privacy"):
        load_statements(DIMENSIONS["privacy"], str(directory / "toxigen.csv"))


def test_two_files_for_one_dimension_are_refused(directory):
    (directory / "humility.JSONL").write_text("")
    with pytest.raises(InvalidInput, match=r"has humility\.JSONL and humility\.csv for humility; keep one"):
        choose_dimensions("all", str(directory))


@pytest.mark.parametrize(
    ("data", "sources"),
    [
        ("packaged", None),
        ("./some/lr=0.1/x.csv", None),
        ("toxicity=./mine.csv, privacy = packaged", {"toxicity": "./mine.csv", "privacy": "packaged"}),
        ("toxicity=a,b.csv,privacy=hub", {"toxicity": "a,b.csv", "privacy": "hub"}),
        ("礼貌=x.csv", {"礼貌": "x.csv"}),
        ("e\u0301gards=x.csv", {"\u00e9gards": "x.csv"}),
    ],
)
def test_a_mix_gives_each_dimension_its_source(data, sources):
    assert parse_mix(data) == sources


def test_a_path_that_exists_is_taken_whole(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("lr=1,seed=2").mkdir()
    Path("lr=1,seed=2/x.csv").write_text(ROWS)
    assert parse_mix("lr=1,seed=2/x.csv") is None
    assert parse_mix("toxicity=lr=1,seed=2/x.csv,privacy=packaged") == {
        "toxicity": "lr=1,seed=2/x.csv",
        "privacy": "packaged",
    }


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("toxicity=a.csv,toxicity=b.csv", "names toxicity twice"),
        ("toxicity=", "no source for toxicity"),
        ("toxicity=a.csv,./b.csv", r"the part '\./b\.csv', which begins with no name"),
    ],
)
def test_a_mix_that_says_nothing_clear_is_refused(data, words, tmp_path, monkeypatch):
    (tmp_path / "a.csv").write_text("statement,label\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidInput, match=words):
        parse_mix(data)
