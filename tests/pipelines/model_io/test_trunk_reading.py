"""Passes that end at the deepest layer that is read."""

import numpy as np
import pytest
import torch

from pipelines.model_io import trunk_reading
from pipelines.model_io.activations import extract
from serving.model.residual_stream import decoder_blocks
from tests.mutants import mutant
from tests.serving.engine.small_models import small_llama

INPUTS = {"input_ids": torch.tensor([[3, 1, 4, 1, 5]])}


def blocks_run(model, layers, module=trunk_reading):
    """By layer, how often each block ran in two passes; and what was read in the second of them."""
    counts, seen = [0] * model.n_layers, {}

    def counting(number):
        return lambda *_: counts.__setitem__(number, counts[number] + 1)

    handles = [
        block.register_forward_hook(counting(number)) for number, block in enumerate(decoder_blocks(model.network))
    ]
    with module.trunk_reading(model, layers, lambda layer, states: seen.update({layer: states})) as run:
        for _ in range(2):
            run(INPUTS)
    for handle in handles:
        handle.remove()
    return counts, seen


def check_depth(module=trunk_reading):
    model = small_llama()
    with torch.inference_mode():
        whole = model.network(**INPUTS, output_hidden_states=True).hidden_states
    for layers, counts in (((1, 0), [2, 2, 0]), ((0,), [2, 0, 0]), ((0, 2), [2, 2, 2])):
        ran, seen = blocks_run(model, layers, module)
        assert ran == counts and set(seen) == set(layers)
        for layer in set(layers) - {2}:
            torch.testing.assert_close(seen[layer], whole[layer + 1], rtol=0, atol=0)
    model.network.hf_device_map = {"": "cpu"}
    assert blocks_run(model, (0,), module)[0] == [2, 2, 2]


def test_no_block_runs_above_the_deepest_layer():
    check_depth()


@pytest.mark.parametrize(
    "change",
    [
        ("model.n_layers if model.is_placed else max(layers)", "max(layers)"),
        ("model.n_layers if model.is_placed else max(layers)", "min(layers)"),
        ("ending_behind(deepest, read)", "read"),
    ],
)
def test_a_mutant_runs_other_blocks(change):
    with mutant(trunk_reading, *change) as changed, pytest.raises(AssertionError):
        check_depth(changed)


def test_errors_of_a_reader_are_raised():
    def fail(_layer, _states):
        raise KeyError("wrong")

    with trunk_reading.trunk_reading(small_llama(), [0], fail) as run, pytest.raises(KeyError, match="wrong"):
        run(INPUTS)


def test_states_are_those_of_a_pass_to_the_end():
    model, texts = small_llama(), ["w1 w2 w3", "w4 w5", "w1 w2 w9"]
    np.testing.assert_array_equal(extract(model, texts, layers=[1]).layer(1), extract(model, texts).layer(1))
