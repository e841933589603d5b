"""Random networks: Llama shapes made from their configuration on the device that they are measured on."""

from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast

from registry.checkpoints import Checkpoint
from serving.model.language_model import LanguageModel

SHAPES: dict[str, dict[str, Any]] = {
    "1b": {  # as Llama 3.2
        "hidden_size": 2048,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "intermediate_size": 8192,
        "vocab_size": 128_256,
        "tie_word_embeddings": True,
    },
    "7b": {  # as Llama 2
        "hidden_size": 4096,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "intermediate_size": 11_008,
        "vocab_size": 32_000,
    },
    # Weights so large that greedy answers vary from token to token instead of repeating one.
    "exact": {
        "hidden_size": 512,
        "num_hidden_layers": 8,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "intermediate_size": 1024,
        "vocab_size": 2048,
        "initializer_range": 0.1,
    },
    "small": {
        "hidden_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 48,
        "vocab_size": 96,
        "initializer_range": 0.3,
    },
}


def random_model(shape: str, device: str, dtype: torch.dtype = torch.bfloat16, seed: int = 0) -> LanguageModel:
    """A network of ``SHAPES`` with weights drawn on ``device``, and a tokenizer whose words are ``w0``, ``w1``, …"""
    ends = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
    config = LlamaConfig(**SHAPES[shape], **ends, max_position_embeddings=4096)
    torch.manual_seed(seed)
    with torch.device(device):
        network = AutoModelForCausalLM.from_config(config, dtype=dtype)
    network = network.to(device).eval().requires_grad_(False)
    checkpoint = Checkpoint(f"llama-{shape}", "memory", "main", 0)
    return LanguageModel(network, _tokenizer(config.vocab_size), checkpoint, "00" * 32)


def _tokenizer(words: int) -> PreTrainedTokenizerFast:
    """Of the byte-level kind that most models have, so that answers cost as much to spell."""
    tokenizer = Tokenizer(WordLevel({f"w{number}": number for number in range(words)}, unk_token="w0"))
    tokenizer.pre_tokenizer, tokenizer.decoder = WhitespaceSplit(), ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="w0")
