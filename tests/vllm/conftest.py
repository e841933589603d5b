"""vLLM runs in an environment of its own: `make test-vllm`. Elsewhere these tests are skipped, and say so."""

import os
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "0")


def pytest_collection_modifyitems(items):
    if find_spec("vllm") is None:
        for item in items:
            if Path(__file__).parent in item.path.parents:
                item.add_marker(pytest.mark.skip(reason="vLLM is not installed here; run make test-vllm"))


def saved(model, directory):
    """A model, as a checkpoint on disk."""
    from registry.checkpoints import Checkpoint

    model.network.save_pretrained(directory)
    model.tokenizer.save_pretrained(directory)
    return replace(model, checkpoint=Checkpoint("small", str(directory), "main", 0))


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """A random Llama; vLLM's attention for CPUs takes no narrower heads than these."""
    from tokenizers.pre_tokenizers import Whitespace
    from transformers import LlamaConfig

    from tests.serving.engine.small_models import SMALL, small_model

    shape = {"hidden_size": 64, "num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 96}
    model = small_model(LlamaConfig(**{**SMALL, **shape}))
    model.tokenizer.backend_tokenizer.pre_tokenizer = Whitespace()  # more than one token in a sentence
    return saved(model, tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="session")
def engine(model):
    """Four slots and four rows, so that requests wait for both; the cache of prompts is on, as vLLM has it."""
    from serving.engine.vllm.engine import VllmEngine

    with VllmEngine(model, slots=4, rows=4, arguments={"enforce_eager": True, "block_size": 32}) as engine:
        yield engine
