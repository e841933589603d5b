import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from serving.engine.slots import weight_packing
from serving.engine.slots.engine import SlotEngine
from serving.engine.slots.model_runner import require_runnable
from serving.engine.slots.weight_packing import packed
from tests.serving.engine.small_models import SMALL, small_model

SIZES = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 80,
    "tie_word_embeddings": True,
}
FAMILIES = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SIZES)),
    "qwen2, with biases": lambda: Qwen2ForCausalLM(Qwen2Config(**SIZES)),
}
pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch without oneDNN")


@pytest.fixture(params=FAMILIES)
def network(request):
    torch.manual_seed(0)
    network = FAMILIES[request.param]().bfloat16().eval()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.05)
    return network


def logits_of(network, count):
    with torch.inference_mode():
        return network(torch.arange(count)[None] + 3).logits


@pytest.mark.parametrize("count", [1, 7, 40])
def test_packed_layers_compute_the_same_bits(network, count):
    plain = logits_of(network, count)
    with packed(network):
        assert torch.equal(logits_of(network, count), plain)


def test_layers_on_the_same_states_share_one_product(network, monkeypatch):
    calls = []
    compute = torch.ops.mkldnn._linear_pointwise
    monkeypatch.setattr(
        torch.ops.mkldnn, "_linear_pointwise", lambda *given: (calls.append(given[0].shape), compute(*given))[1]
    )
    with packed(network):
        logits_of(network, 3)
    assert len(calls) == 2 * 4 + 1  # q, k, v as one; output; gate and up as one; down; and the head


def test_weights_are_in_memory_once_and_come_back(network):
    before = {name: weight.clone() for name, weight in network.named_parameters()}
    with packed(network):
        assert network.model.layers[0].self_attn.q_proj.weight.numel() == 0
        assert network.model.layers[0].mlp.down_proj.weight.numel() == 0
        assert network.lm_head.weight.numel() > 0  # tied to the embedding
    assert all(torch.equal(weight, before[name]) for name, weight in network.named_parameters())
    assert "forward" not in vars(network.model.layers[0].self_attn.q_proj)


def test_a_layer_answers_for_the_states_it_is_given(network):
    layers = network.model.layers[0].self_attn
    one, other = torch.randn(2, 1, 3, 64).bfloat16()
    with torch.inference_mode():
        plain = [layers.q_proj(one), layers.k_proj(other), layers.v_proj(one), layers.v_proj(one)]
        with packed(network):
            again = [layers.q_proj(one), layers.k_proj(other), layers.v_proj(one), layers.v_proj(one)]
    assert all(map(torch.equal, again, plain))


def test_weights_come_back_after_an_error(network):
    with pytest.raises(RuntimeError), packed(network):
        raise RuntimeError
    assert network.model.layers[1].mlp.up_proj.weight.numel() > 0


def test_weights_can_be_trained_through_after_inference(network):
    with torch.inference_mode(), packed(network):
        logits_of(network, 3)
    offset = torch.zeros(1, 3, SIZES["hidden_size"], dtype=torch.bfloat16, requires_grad=True)
    states = network.model.embed_tokens(torch.arange(3)[None]) + offset
    network(inputs_embeds=states).logits.sum().backward()
    assert offset.grad.isfinite().all() and offset.grad.any()


def test_an_engine_alone_gathers_weights_that_no_cache_holds(monkeypatch):
    gathered = []
    monkeypatch.setattr(weight_packing, "gather_memory", lambda: gathered.append(1))
    model = small_model(LlamaConfig(**SMALL), dtype=torch.bfloat16)
    SlotEngine(model, slots=1).close()
    monkeypatch.setattr(weight_packing, "MANY_BYTES", 1024)
    require_runnable(model)
    assert not gathered
    SlotEngine(model, slots=1).close()
    assert gathered == [1]
    SlotEngine(small_model(LlamaConfig(**SMALL)), slots=1).close()  # nothing is packed in float32
    assert gathered == [1]
