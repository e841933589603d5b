"""The packaged model itself: SmolLM2-135M-Instruct, read from its GGUF file."""

import pytest
import torch

from serving.model.language_model import load
from serving.model.sources import find_series


@pytest.fixture(scope="module")
def smollm2():
    return load(find_series("smollm2").checkpoints[0], precision="bfloat16")


def test_it_is_smollm2(smollm2):
    assert (smollm2.n_layers, smollm2.d_model, smollm2.dtype) == (30, 576, torch.bfloat16)
    assert smollm2.weights_digest.startswith("b179c952")  # of the file in the package


def test_it_knows_its_capitals(smollm2):
    tokens = smollm2.tokenizer("The capital of France is", return_tensors="pt")
    with torch.inference_mode():
        following = smollm2.network(**tokens).logits[0, -1].argmax()
    assert smollm2.tokenizer.decode(following) == " Paris"


def test_it_is_converted_once(smollm2, monkeypatch):
    monkeypatch.setattr("serving.model.gguf._convert", lambda *_: pytest.fail("converted again"))
    assert load(find_series("smollm2").checkpoints[0]).weights_digest == smollm2.weights_digest
