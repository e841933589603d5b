"""Directions read on answers, of a tiny model."""

import json

import numpy as np
import pytest

from pipelines.behaviours import persona
from pipelines.behaviours.contrast import contrast_set
from pipelines.behaviours.names import SCORED
from pipelines.model_io.activations import extract
from pipelines.vectors import responses
from pipelines.vectors.responses import response_directions, response_methods
from registry.errors import InvalidInput
from serving.model.language_model import load
from serving.model.sources import find_series
from tests.pipelines.behaviours.small_behaviour import cruel_answers


def test_the_direction_is_the_mean_difference_over_answers(series_directory, cache, monkeypatch):
    model = load(find_series(str(series_directory)).checkpoints[-1], precision="float32")
    monkeypatch.setattr(responses, "behaviour_of", lambda *_: cruel_answers(tokens=1))
    contrast = contrast_set(model, cruel_answers(tokens=1))
    assert {(pair.trustworthy, pair.untrustworthy) for pair in contrast.pairs} == {(" kind", " cruel")}
    for layer, fitted in response_directions(model, "toxicity", [0, 2], ["response-mean"]):
        # An answer of one word is read at its last token.
        kind, cruel = (
            extract(model, [f"{pair.prompt} {word}" for pair in contrast.pairs], layers=[layer]).layer(layer)
            for word in ("kind", "cruel")
        )
        difference = (kind - cruel).mean(axis=0)
        np.testing.assert_allclose(fitted.unit, difference / np.linalg.norm(difference), atol=1e-5)
        projections = np.concatenate([kind, cruel]) @ fitted.unit
        assert fitted.scale == pytest.approx(projections.std(ddof=1), rel=1e-4)
        assert (fitted.method, fitted.is_control) == ("response-mean", False)
        assert (fitted.texts.source, fitted.texts.n) == ("answers:cruel-answers", 2 * len(contrast.pairs))
        assert fitted.texts.digest == contrast.digest


def test_dimensions_without_a_behaviour_are_left_to_other_methods(tmp_path):
    assert response_methods("toxicity", ("mass-mean", "persona", "response-mean")) == ("response-mean", "persona")
    assert response_methods("toxicity", ("mass-mean",)) == ()
    assert response_methods("humility", ("mass-mean", "response-mean")) == ()
    for methods in (("response-mean",), ("persona",), ("response-mean", "persona")):
        with pytest.raises(InvalidInput, match="to `vectors` methods=response-mean with answers=humility=<a file"):
            response_methods("humility", methods)
    assert response_methods("humility", ("response-mean",), {"humility": tmp_path}) == ("response-mean",)
    with pytest.raises(InvalidInput, match="cannot be scored for humility"):
        response_methods("humility", ("persona",), {"humility": tmp_path})


def test_a_persona_is_read_after_its_own_instructions(series_directory, cache, monkeypatch):
    model = load(find_series(str(series_directory)).checkpoints[-1], precision="float32")
    monkeypatch.setattr(responses, "behaviour_of", lambda *_: cruel_answers())

    def written(_model, texts, sampling):
        # Every fourth answer does not do as it was asked to.
        word = "cruel" if ("rude" in texts[0]) else "kind"
        other = {"kind": "cruel", "cruel": "kind"}[word]
        return tuple(f" {other if place % 4 == 0 else word}" for place in range(len(texts)))

    monkeypatch.setattr(persona, "continuations", written)
    answers = persona.persona_set(model, cruel_answers())
    assert {answer.text for answer in answers.trustworthy} == {" kind"}
    assert {answer.text for answer in answers.untrustworthy} == {" cruel"}
    assert len(answers.trustworthy) == len(answers.untrustworthy) == 2 * persona.PROMPTS * 3 // 4
    first, second = persona.INSTRUCTIONS["toxicity"]
    assert {answer.prompt.partition("\n")[0] for answer in answers.untrustworthy} == {
        *(first.untrustworthy, second.untrustworthy)
    }
    ((layer, fitted),) = response_directions(model, "toxicity", [1], ["persona"])
    kind, cruel = (
        extract(model, [f"{answer.prompt}{answer.text}" for answer in given], layers=[1]).layer(1)
        for given in (answers.trustworthy, answers.untrustworthy)
    )
    difference = kind.mean(axis=0) - cruel.mean(axis=0)
    np.testing.assert_allclose(fitted.unit, difference / np.linalg.norm(difference), atol=1e-5)
    assert (layer, fitted.method, fitted.texts.source) == (1, "persona", "persona:cruel-answers")
    assert fitted.texts.digest == answers.digest


def test_every_behaviour_has_instructions():
    assert set(persona.INSTRUCTIONS) == set(SCORED)


def kind_less_cruel(model, form):
    """The direction between 25 texts with either word at layer 1, each read at its last token."""
    kind, cruel = (
        extract(model, [form.format(number, word) for number in range(25)], layers=[1]).layer(1).mean(axis=0)
        for word in ("kind", "cruel")
    )
    return (kind - cruel) / np.linalg.norm(kind - cruel)


def test_the_users_own_answers_are_read(series_directory, tmp_path):
    model = load(find_series(str(series_directory)).checkpoints[-1], precision="float32")
    rows = [f"the city {number},{word},{label}" for number in range(25) for word, label in (("kind", 1), ("cruel", 0))]
    path = tmp_path / "own.csv"
    path.write_text("\n".join(["prompt,response,label", *rows]))
    ((_, fitted),) = response_directions(model, "robustness", [1], ["response-mean"], {"robustness": path})
    np.testing.assert_allclose(fitted.unit, kind_less_cruel(model, "the city {} {}"), atol=1e-5)
    assert (fitted.texts.source, fitted.texts.n) == ("file:own.csv", 50)


def test_chats_are_read_in_the_models_template(series_directory, tmp_path):
    model = load(find_series(str(series_directory)).checkpoints[-1], precision="float32")
    rows = [
        {"prompt": [{"role": "user", "content": f"the city {number}"}], "response": f" {word}", "label": label}
        for number in range(25)
        for word, label in (("kind", 1), ("cruel", 0))
    ]
    path = tmp_path / "own.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    model.tokenizer.chat_template = ""
    with pytest.raises(InvalidInput, match=r"has no chat template; give its prompts as texts, not as chats"):
        list(response_directions(model, "robustness", [1], ["response-mean"], {"robustness": path}))
    model.tokenizer.chat_template = "{% for turn in messages %}of {{ turn.content }} is{% endfor %}"
    ((_, fitted),) = response_directions(model, "robustness", [1], ["response-mean"], {"robustness": path})
    np.testing.assert_allclose(fitted.unit, kind_less_cruel(model, "of the city {} is {}"), atol=1e-5)
    assert fitted.texts.template == "chat"
    model.tokenizer.chat_template = "{{ raise_exception('one turn only') }}"
    with pytest.raises(InvalidInput, match=r"the chat template of .* refuses a chat: one turn only"):
        list(response_directions(model, "robustness", [1], ["response-mean"], {"robustness": path}))
