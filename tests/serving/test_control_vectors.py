"""An exported control vector, added as llama.cpp adds one, gives the answers that the service gives.

llama.cpp's rule is written out here from its source: tensor ``direction.<n>`` is added to the output of decoder block
``n``, counted from 0, at every position of prompt and answer. `make bench-llama` holds the real one to the same.
"""

from contextlib import ExitStack

import numpy as np
import pytest
import torch
from gguf import GGUFReader

from registry import gguf
from registry.pack_folder import read_pack
from serving.engine.base import GenerationRequest, Sampling
from serving.engine.slots.engine import SlotEngine
from serving.steering.bank import ServedVector, SteeringBank
from serving.steering.plan import Add, SteeringPlan, TokenScope
from serving.steering.shipped_packs import SHIPPED
from tests.mutants import mutant
from tests.serving.engine.small_models import facts, prompts, served_vector, small_llama

STRENGTH, TOKENS = 2.5, 12
EVERYWHERE = TokenScope(prompt="all", generation="all")


def steered_as_llama_cpp(network, control_vector):
    """Hooks that add the file's tensors, while open."""
    hooks = ExitStack()
    for tensor in GGUFReader(control_vector).tensors:
        block = network.model.layers[int(tensor.name.removeprefix("direction."))]
        offset = torch.from_numpy(np.array(tensor.data))
        hooks.callback(block.register_forward_hook(lambda _m, _i, output, offset=offset: output + offset).remove)
    return hooks


def greedy(network, prompt):
    tokens = list(prompt)
    for _ in range(TOKENS):
        with torch.inference_mode():
            tokens.append(int(network(torch.tensor([tokens]), use_cache=False).logits[0, -1].argmax()))
    return tuple(tokens[len(prompt) :])


def answers_by_file(export, vector, asked, path):
    path.write_bytes(export.vector_to_gguf(vector.vector, STRENGTH, model_hint="llama"))
    network = small_llama().network
    with steered_as_llama_cpp(network, path):
        return [greedy(network, prompt) for prompt in asked]


@pytest.fixture(scope="module")
def vector():
    return served_vector(layer=1)


@pytest.fixture(scope="module")
def asked():
    return prompts(8)


@pytest.fixture(scope="module")
def served(vector, asked):
    plan = SteeringPlan(SteeringBank(facts(), (vector,)), (Add(vector, STRENGTH, EVERYWHERE),))
    sampling = Sampling(TOKENS, temperature=0.0)
    with SlotEngine(small_llama(), slots=len(asked)) as engine:
        running = [engine.submit(GenerationRequest(tuple(prompt), sampling, plan)) for prompt in asked]
        return [generation.result(60).tokens for generation in running]


def test_a_control_vector_steers_as_the_service_does(tmp_path, vector, asked, served):
    network = small_llama().network
    assert sum(greedy(network, prompt) != answer for prompt, answer in zip(asked, served, strict=True)) >= 4
    assert answers_by_file(gguf, vector, asked, tmp_path / "vector.gguf") == served


@pytest.mark.parametrize(
    ("passage", "replacement"),
    [
        ('f"direction.{layer}", offset', 'f"direction.{layer + 1}", offset'),
        ('f"direction.{layer}", offset', 'f"direction.{layer}", -offset'),
        ("vector.offsets(strength).items()", "vector.offsets(1.0).items()"),
        ('f"direction.{layer}", offset', 'f"direction.{layer}", vector.at(layer).unit'),
    ],
    ids=["next layer", "other sign", "other strength", "no scale"],
)
def test_a_wrong_layer_sign_or_length_shows(tmp_path, vector, asked, served, passage, replacement):
    with mutant(gguf, passage, replacement) as changed:
        assert answers_by_file(changed, vector, asked, tmp_path / "vector.gguf") != served


@pytest.mark.parametrize(
    "directory", sorted(path for path in SHIPPED.iterdir() if path.is_dir()), ids=lambda path: path.name
)
def test_shipped_control_vectors_are_the_vectors_as_recommended(directory):
    packed = [vector for vector in read_pack(directory).pack.vectors if vector.recommended > 0 and vector.vector.layer]
    assert packed
    for vector in packed:
        (tensor,) = GGUFReader(directory / "gguf" / f"{vector.dimension}.gguf").tensors
        assert tensor.name == f"direction.{vector.vector.layer}"
        expected = vector.recommended * vector.vector.scale * vector.vector.direction.astype(np.float64)
        np.testing.assert_allclose(tensor.data, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(
    "directory", sorted(path for path in SHIPPED.iterdir() if path.is_dir()), ids=lambda path: path.name
)
def test_shipped_vectors_of_answers_can_be_monitored(directory):
    for packed in read_pack(directory).pack.vectors:
        probe = ServedVector(packed.registered, packed.vector, packed.probe).require_probe()
        assert probe.reads_answers and probe.window > 1
        assert packed.metrics[f"{packed.dimension}/probe_auroc"] == probe.quality.auroc
