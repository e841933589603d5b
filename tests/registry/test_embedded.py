"""Names of the embedded series."""

import pytest

from registry.embedded import data_argument, embedded_seed, model_argument, registry_name, spellings


@pytest.mark.parametrize(
    ("model", "seed"),
    [("tiny", 0), ("tiny:0", 0), ("tiny:1", 1), ("tiny-1", 1), ("tiny:01", 1), ("tiny:x", None), ("tiny:-1", None),
     ("tiny-llama", None), ("tiny:", None), ("tiny1", None), ("org/tiny", None)],
)  # fmt: skip
def test_a_seed_stands_after_the_name(model, seed):
    assert embedded_seed(model) == seed


def test_a_directory_of_the_registered_name_is_itself(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny-1").mkdir()
    assert embedded_seed("tiny-1") is None
    assert embedded_seed("tiny:1") == 1


def test_seeds_do_not_share_registry_names():
    assert [registry_name(model) for model in ("tiny", "tiny:0", "tiny:1", "tiny:11", "smollm2")] == [
        "tiny",
        "tiny",
        "tiny-1",
        "tiny-11",
        "smollm2",
    ]


def test_all_spellings_are_found_in_runs():
    assert spellings("tiny:0") == ("tiny", "tiny:0", "tiny-0")
    assert spellings("tiny-1") == ("tiny-1", "tiny:1")
    assert spellings("smollm2") == ("smollm2",)


def test_a_command_gets_only_names_that_it_knows():
    assert [model_argument(name) for name in ("tiny", "tiny-3", "smollm2")] == ["tiny", "tiny:3", "smollm2"]
    assert model_argument("pythia-70m") == "<path or hub id of pythia-70m>"
    assert data_argument("file:my humility.csv") == {"data": "<path of my humility.csv>"}
    assert data_argument("packaged:remarks") == {}
