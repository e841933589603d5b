"""Contrast sets of a tiny model."""

import shutil
from itertools import product

import numpy as np
import pytest

from pipelines.behaviours import contrast
from pipelines.behaviours.behaviour import Behaviour, Prompt, by_use
from pipelines.behaviours.contrast import ContrastPair, ContrastSet, contrast_set
from pipelines.model_io import answer_keys
from registry.errors import InvalidInput
from serving.model.language_model import load
from serving.model.sources import find_series

WORDS = ("the", "city", "of", "is", "in", "you", "are", "a", "letter", "kind")


@pytest.fixture(scope="module")
def model(series_directory):
    return load(find_series(str(series_directory)).checkpoints[-1], precision="float32")


def behaviour(**known):
    prompts = [Prompt(" ".join(words), **known) for words in product(WORDS, repeat=3)]

    def score(_prompts, answers):
        return np.array([float(answer.count("a") % 2) for answer in answers])

    return Behaviour("toxicity", "odd answers", by_use(prompts), score, tokens=4)


@pytest.fixture(scope="module")
def written(model, tmp_path_factory):
    """A cache with the set that the model writes by itself."""
    root = tmp_path_factory.mktemp("contrast")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRUSTTRACE_CACHE", str(root))
        contrast_set(model, behaviour())
    return root


@pytest.fixture
def kept(written, cache):
    """The cache of a test that begins with that set."""
    shutil.copytree(written, cache, dirs_exist_ok=True)


def test_pairs_are_the_models_own_answers_and_kept(model, cache, monkeypatch):
    own = contrast_set(model, behaviour())
    assert own.n_prompts == 160
    score = behaviour().score
    assert score((), [pair.trustworthy for pair in own.pairs]).max() == 0
    assert score((), [pair.untrustworthy for pair in own.pairs]).min() == 1
    assert {pair.prompt for pair in own.pairs} <= {prompt.text for prompt in behaviour().prompts["fitting"]}
    monkeypatch.setattr(contrast, "continuations", None)
    assert contrast_set(model, behaviour()) == own
    assert contrast_set(model, behaviour()).digest == own.digest


def test_damaged_files_and_mended_tokenizers_make_a_set_anew(model, kept, cache, monkeypatch):
    own = contrast_set(model, behaviour())
    (path,) = (cache / "contrast").glob("*.json")
    path.write_text("{")
    assert contrast_set(model, behaviour()) == own
    monkeypatch.setattr(answer_keys, "identity_of", lambda _: "other files")
    contrast_set(model, behaviour())
    assert len(list((cache / "contrast").glob("*.json"))) == 2


def test_untrustworthy_answers_are_the_models_where_it_wrote_one(model, kept):
    own, known = contrast_set(model, behaviour()), contrast_set(model, behaviour(untrustworthy=" cruel"))
    written = {pair.prompt: pair.untrustworthy for pair in own.pairs}
    assert len(known.pairs) > len(own.pairs)
    assert {pair.untrustworthy for pair in known.pairs if pair.prompt not in written} == {" cruel"}
    assert {pair.prompt: pair.untrustworthy for pair in known.pairs if pair.prompt in written} == written


def test_known_right_answers_are_preferred(model, kept):
    known = contrast_set(model, behaviour(trustworthy=" kind"))
    assert {pair.trustworthy for pair in known.pairs} == {" kind"}
    assert known.digest != contrast_set(model, behaviour()).digest


def test_too_few_pairs_are_refused():
    pairs = tuple(ContrastPair(f"{number}", "kind", "cruel") for number in range(29))
    with pytest.raises(InvalidInput, match="80 prompts gave 29 pairs .* for toxicity .odd answers., and 30 are needed"):
        ContrastSet("toxicity", "odd answers", pairs, 80)
