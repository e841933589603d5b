"""Language model: one checkpoint in memory, from wherever its files come."""

import gc
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from transformers import GenerationConfig, PreTrainedTokenizerBase
from transformers.utils.logging import disable_progress_bar

from registry.checkpoints import Checkpoint
from registry.errors import InvalidInput
from serving.model.freed_memory import give_back_freed_memory
from serving.model.loading import (
    empty_network,
    random_network,
    read_config,
    read_network,
    read_tokenizer,
    require_causal,
)
from serving.model.placement import Placement, Precision
from serving.model.residual_stream import decoder_blocks
from serving.model.token_bytes import TokenBytes
from serving.model.weights import locate
from serving.steering.compatibility import ModelFacts


@dataclass(frozen=True)
class LanguageModel:
    """A network with its tokenizer, and the checkpoint that both came from."""

    network: Any
    """The Hugging Face causal language model, in evaluation mode."""
    tokenizer: PreTrainedTokenizerBase
    checkpoint: Checkpoint
    weights_digest: str
    """SHA-256 of the weight files; of configuration and seed for a random initialisation."""

    @property
    def n_layers(self) -> int:
        return len(decoder_blocks(self.network))

    @property
    def d_model(self) -> int:
        return int(self._text_config.hidden_size)

    @property
    def vocabulary(self) -> int:
        """How many tokens it can read."""
        return int(self.network.get_input_embeddings().num_embeddings)

    @property
    def facts(self) -> ModelFacts:
        """What decides whether a vector fits it."""
        return ModelFacts(self.checkpoint, self.weights_digest, self.d_model, self.n_layers)

    @cached_property
    def token_bytes(self) -> TokenBytes:
        """The bytes of its tokens, looked up once."""
        return TokenBytes(self.tokenizer)

    @property
    def trunk(self) -> Any:
        """The network without its language-model head."""
        return self.network.base_model

    @property
    def device(self) -> torch.device:
        device: torch.device = self.network.get_input_embeddings().weight.device
        return device

    @property
    def is_placed(self) -> bool:
        """Whether accelerate spread the layers over devices, by a ``device_map``."""
        return getattr(self.network, "hf_device_map", None) is not None

    @property
    def dtype(self) -> torch.dtype:
        dtype: torch.dtype = self.network.dtype
        return dtype

    @property
    def context_length(self) -> int | None:
        """The longest input in tokens, where the configuration declares one."""
        names = ("max_position_embeddings", "n_positions", "max_seq_len", "max_sequence_length")
        declared = (getattr(self._text_config, name, None) for name in names)
        return next((int(length) for length in declared if length), None)

    @property
    def _text_config(self) -> Any:
        """The decoder's part of a configuration that has parts for images or sound too."""
        return self.network.config.get_text_config(decoder=True)


disable_progress_bar()  # a sweep has one of its own


def load(
    checkpoint: Checkpoint,
    *,
    precision: Precision = "auto",
    device: str = "auto",
    device_map: str | None = None,
    seed: int = 0,
    share_tokenizer: bool = False,
) -> LanguageModel:
    """Load one checkpoint: a hub revision, a directory, a GGUF file, or a packaged model.

    ``precision`` and ``device`` are as of ``Placement``; ``device_map`` is handed to Hugging Face and spreads a
    large model over devices. A checkpoint whose revision is ``init`` gets its architecture's random initialisation,
    drawn with ``seed``. Remote code is never run. With ``share_tokenizer`` it has the tokenizer of the last checkpoint
    that was loaded so, where the files of both are the same; change nothing about that.
    Raises ``Unavailable`` when the weights cannot be had, ``CorruptFile`` when they are damaged or not whole,
    ``InvalidInput`` for a model that is no decoder, looks ahead, is quantised, or has no tokenizer.
    """
    placement = Placement(precision, device).resolved()
    files = locate(checkpoint)
    config = read_config(files.directory)
    shared_as = files.tokenizer_identity() if share_tokenizer else None
    tokenizer = read_tokenizer(files.tokenizer, config, shared_as=shared_as)
    if checkpoint.is_random_init:
        network = random_network(files.directory, config, placement, seed)
        digest = files.random_digest(seed)
    else:
        network = read_network(files.directory, config, placement, device_map)
        digest = files.digest()
    network = network.eval().requires_grad_(False)
    require_causal(network, files.directory)
    return LanguageModel(network, tokenizer, checkpoint, digest)


def described(checkpoint: Checkpoint, *, precision: Precision = "auto", device: str = "auto") -> LanguageModel:
    """All of a checkpoint but its weights: the network is on the meta device, for an engine that loads them itself.

    Raises what ``load`` raises, and ``InvalidInput`` for a random initialisation, which no file holds.
    """
    if checkpoint.is_random_init:
        raise InvalidInput(
            f"{checkpoint.caption} of {checkpoint.model} is a random initialisation, and no file holds it"
        )
    files = locate(checkpoint)
    config = read_config(files.directory)
    tokenizer = read_tokenizer(files.tokenizer, config)
    network = empty_network(files.directory, config, Placement(precision, device).resolved())
    with suppress(OSError):
        network.generation_config = GenerationConfig.from_pretrained(files.directory, trust_remote_code=False)
    return LanguageModel(network.eval(), tokenizer, checkpoint, files.digest())


def release(model: LanguageModel) -> None:
    """Free the memory of a model that is no longer used, before the next one is loaded."""
    model.network.to("meta")
    gc.collect()
    give_back_freed_memory()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def require_layer(model: LanguageModel, layer: int) -> int:
    """``layer`` if the model has it; ``Mismatch`` names both numbers otherwise."""
    return model.facts.require_layer(layer)
