"""Hidden states over HTTP: those of the model itself, bounded, and for administrators alone."""

import base64

import numpy as np
import pytest

from serving.api.auth import require_allowed
from serving.api.errors import Forbidden, KeyRequired
from serving.settings import Settings

TEXTS = ["The city of Lyon", "you"]


def read(client, **body):
    reply = client.post("/v1/hidden_states", json={"input": TEXTS, "layer": 2, **body})
    assert reply.status_code == 200, reply.text
    return reply.json()


@pytest.fixture(scope="module")
def expected(chat_model):
    """Of each text, the output of block 2 in the plain model: Hugging Face's ``hidden_states[3]``."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    place = next(chat_model.iterdir())
    network, tokenizer = AutoModelForCausalLM.from_pretrained(place), AutoTokenizer.from_pretrained(place)
    states = []
    for text in TEXTS:
        tokens = tokenizer(text)["input_ids"]
        with torch.inference_mode():
            found = network(torch.tensor([tokens]), output_hidden_states=True).hidden_states
        states.append((tokens, found[3][0].numpy()))
    return states


def test_they_are_those_of_the_model(client, expected):
    encoded, lists = read(client), read(client, encoding_format="float")
    for prompt, as_lists, (tokens, states) in zip(encoded["data"], lists["data"], expected, strict=True):
        decoded = np.frombuffer(base64.b64decode(prompt["hidden_states"]), "<f4").reshape(prompt["shape"])
        assert prompt["tokens"] == tokens
        np.testing.assert_allclose(decoded, states, atol=1e-5)
        np.testing.assert_array_equal(decoded, np.array(as_lists["hidden_states"], np.float32))
    assert len(encoded["weights_digest"]) == 64


def test_the_last_token_alone_and_tokens_as_input(client, expected):
    sequences = [tokens for tokens, _ in expected]
    for prompt, (_, states) in zip(read(client, tokens="last", input=sequences)["data"], expected, strict=True):
        decoded = np.frombuffer(base64.b64decode(prompt["hidden_states"]), "<f4")
        assert prompt["shape"] == [1, 32]
        np.testing.assert_allclose(decoded, states[-1], atol=1e-5)


@pytest.mark.parametrize(
    ("body", "param", "words"),
    [
        ({"layer": 4}, "layer", "4"),
        ({"layer": -1}, "layer", "greater than or equal to 0"),
        ({"input": ["a"] * 65}, "input", "holds 65 prompts and may hold 1 to 64"),
        ({"input": []}, "input", "holds 0 prompts"),
        ({"input": ["a", ""]}, "input.1", "empty"),
        ({"input": ["a" * 2100] * 64}, "input", "134400 tokens of 32 numbers each, and one request may read 131072"),
        ({"messages": [{"role": "user", "content": "a"}]}, "input", "not both"),
    ],
)
def test_what_is_too_much_or_wrong_is_refused_by_name(client, body, param, words):
    reply = client.post("/v1/hidden_states", json={"input": "a", "layer": 1, **body})
    error = reply.json()["error"]
    assert (reply.status_code, error["param"]) == (400, param) and words in error["message"]


def test_a_users_key_is_not_enough():
    settings = Settings(api_keys="user", admin_key="admin")
    for key, refused in (("user", Forbidden), ("", KeyRequired)):
        headers = {"authorization": f"Bearer {key}", "host": "x"}
        with pytest.raises(refused):
            require_allowed(settings, "POST", "/v1/hidden_states", headers, "10.0.0.1")
    require_allowed(settings, "POST", "/v1/hidden_states", {"authorization": "Bearer admin"}, "10.0.0.1")
