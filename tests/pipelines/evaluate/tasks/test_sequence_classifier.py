import json

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification

from pipelines.evaluate.tasks.sequence_classifier import load_sequence_classifier, toxic_label
from registry.errors import InvalidInput, Unavailable
from tests.conftest import tiny_llama


@pytest.fixture
def directory(tmp_path, word_tokenizer):
    """A small untrained classifier of which the first label is the toxic one."""
    config = BertConfig(
        vocab_size=len(word_tokenizer), hidden_size=8, num_hidden_layers=0, num_attention_heads=2, num_labels=2,
        id2label={0: "toxic", 1: "neutral"}, label2id={"toxic": 0, "neutral": 1}, max_position_embeddings=300,
    )  # fmt: skip
    torch.manual_seed(0)
    network = BertForSequenceClassification(config)
    network.save_pretrained(tmp_path / "judge")
    tokenizer = word_tokenizer.__class__(
        tokenizer_object=word_tokenizer.backend_tokenizer, unk_token="<unk>", pad_token="<unk>"
    )
    tokenizer.save_pretrained(tmp_path / "judge")
    return tmp_path / "judge"


def test_probabilities_are_those_of_each_text_alone(directory):
    classifier = load_sequence_classifier(str(directory))
    texts = ["you are cruel", "", "the city of Paris is in France .", "you are kind"] * 20
    found = classifier.probabilities(texts)
    assert found[1] == 0
    for text, value in zip(texts[:4], found[:4], strict=True):
        if text:
            encoded = classifier.tokenizer(text, return_tensors="pt")
            with torch.inference_mode():
                expected = classifier.network(**encoded).logits.softmax(dim=1)[0, 0]
            assert value == pytest.approx(float(expected), rel=1e-4)
    assert np.allclose(found[:4], found[-4:])


def test_the_toxic_label_is_found_by_its_name():
    assert toxic_label({0: "LABEL_0", 1: "LABEL_1"}) == 1
    assert toxic_label({0: "non-toxic", 1: "toxic"}) == 1
    assert toxic_label({0: "toxic", 1: "neutral"}) == 0
    assert toxic_label({0: "not_hate", 1: "hate"}) == 1
    with pytest.raises(InvalidInput, match="none of the classifier's labels \\(joy, anger\\)"):
        toxic_label({0: "joy", 1: "anger"})


def test_what_cannot_be_loaded_is_one_sentence(tmp_path):
    with pytest.raises(Unavailable, match="could not be loaded .* or use classifier=packaged"):
        load_sequence_classifier(str(tmp_path))


def test_a_language_model_is_no_classifier(tmp_path, word_tokenizer):
    tiny_llama(0).save_pretrained(tmp_path)
    word_tokenizer.save_pretrained(tmp_path)
    with pytest.raises(InvalidInput, match="has no weights for score.weight, which would be drawn at random"):
        load_sequence_classifier(str(tmp_path))


def test_weights_that_cannot_be_read_are_one_sentence(directory):
    path = directory / "model.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(Unavailable, match="could not be loaded .* or use classifier=packaged"):
        load_sequence_classifier(str(directory))


def test_weights_of_another_shape_are_one_sentence(directory):
    path = directory / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "hidden_size": 16}))
    with pytest.raises(Unavailable, match="could not be loaded .* or use classifier=packaged"):
        load_sequence_classifier(str(directory))


def test_a_kernel_that_its_configuration_names_is_not_fetched(directory):
    path = directory / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "attn_implementation": "evil/kernel"}))
    assert load_sequence_classifier(str(directory)).network.config._attn_implementation in ("sdpa", "eager")
