import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    Olmo2Config,
    Qwen2Config,
)

from registry.errors import Mismatch
from serving.model.residual_stream import decoder_blocks, hidden_states_of, recording, recording_to_deepest

SMALL = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "vocab_size": 20, "intermediate_size": 32}
FAMILIES = [
    LlamaConfig(**SMALL),
    MistralConfig(**SMALL, num_key_value_heads=2),
    Qwen2Config(**SMALL, num_key_value_heads=2),
    Olmo2Config(**SMALL),
    GPTNeoXConfig(**SMALL),
    Gemma2Config(**SMALL, num_key_value_heads=2, head_dim=8),
    GPT2Config(n_embd=16, n_layer=3, n_head=2, vocab_size=20, bos_token_id=0, eos_token_id=0),
]


@pytest.mark.parametrize("config", FAMILIES, ids=lambda config: config.model_type)
def test_what_is_recorded_is_what_hugging_face_calls_hidden_states(config):
    torch.manual_seed(0)
    network = AutoModelForCausalLM.from_config(config).eval()
    tokens = torch.tensor([[1, 2, 3, 4]])
    recorded = {}
    with torch.inference_mode(), recording(network, range(3), lambda layer, states: recorded.update({layer: states})):
        network.base_model(input_ids=tokens, use_cache=False)
    with torch.inference_mode():
        expected = network(input_ids=tokens, output_hidden_states=True).hidden_states
    # Their last one is taken after the final norm, so it is none of ours.
    for layer in range(2):
        torch.testing.assert_close(recorded[layer], expected[layer + 1])
    assert recorded[2].shape == expected[3].shape


def test_layers_are_read_in_order_and_only_those_asked_for():
    network = AutoModelForCausalLM.from_config(FAMILIES[0])
    seen = []
    with torch.inference_mode(), recording(network, [2, 0], lambda layer, _: seen.append(layer)):
        network(input_ids=torch.tensor([[1]]))
    assert seen == [0, 2]


def test_a_pass_ends_behind_the_deepest_layer_read():
    network = AutoModelForCausalLM.from_config(FAMILIES[0])
    seen, read, blocks = [], {}, decoder_blocks(network)
    others = [
        block.register_forward_hook(lambda *_, layer=layer: seen.append(layer)) for layer, block in enumerate(blocks)
    ]
    with torch.inference_mode(), recording_to_deepest(network, iter([1, 0]), read.__setitem__):
        network(input_ids=torch.tensor([[1, 2]]))
        seen.append("went on")
    for other in others:
        other.remove()
    assert (seen, sorted(read)) == ([0, 1], [0, 1])
    assert not any(block._forward_hooks for block in blocks)
    with torch.inference_mode(), recording(network, [1], lambda _, states: torch.testing.assert_close(states, read[1])):
        network(input_ids=torch.tensor([[1, 2]]))


def test_after_an_exception_the_model_is_as_before():
    network = AutoModelForCausalLM.from_config(FAMILIES[0])
    with pytest.raises(RuntimeError, match="boom"), recording(network, [0], lambda *_: None):
        raise RuntimeError("boom")
    assert not any(block._forward_hooks for block in decoder_blocks(network))


def test_a_tuple_and_a_tensor_give_the_same_states():
    states = torch.ones(1, 2, 3)
    assert hidden_states_of(states) is states
    assert hidden_states_of((states, None)) is states


def test_what_is_no_decoder_is_refused_with_both_numbers():
    network = AutoModelForCausalLM.from_config(FAMILIES[0])
    network.config.num_hidden_layers = 5
    with pytest.raises(Mismatch, match=r"5 hidden layers.*\[3\]"):
        decoder_blocks(network)
