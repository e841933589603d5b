"""One checkpoint of a language model in memory, and the loader for every place a checkpoint can come from."""

import gc
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig, PreTrainedTokenizerBase
from transformers.utils.logging import disable_progress_bar

from registry.checkpoints import Checkpoint
from registry.errors import CorruptFile, InvalidInput
from serving.model.residual_stream import decoder_blocks
from serving.model.weights import locate
from serving.steering.compatibility import ModelFacts

Precision = Literal["auto", "float32", "bfloat16"]


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
        return int(self.network.config.hidden_size)

    @property
    def facts(self) -> ModelFacts:
        """What decides whether a vector fits it."""
        return ModelFacts(self.checkpoint, self.weights_digest, self.d_model, self.n_layers)

    @property
    def trunk(self) -> Any:
        """The network without its language-model head."""
        return self.network.base_model

    @property
    def device(self) -> torch.device:
        device: torch.device = self.network.get_input_embeddings().weight.device
        return device

    @property
    def dtype(self) -> torch.dtype:
        dtype: torch.dtype = self.network.dtype
        return dtype

    @property
    def context_length(self) -> int | None:
        """The longest input in tokens, where the configuration declares one."""
        declared = getattr(self.network.config, "max_position_embeddings", None)
        return int(declared) if declared else None


disable_progress_bar()  # a sweep has one of its own


def load(
    checkpoint: Checkpoint,
    *,
    precision: Precision = "auto",
    device: str = "auto",
    device_map: str | None = None,
    seed: int = 0,
) -> LanguageModel:
    """Load one checkpoint: a hub revision, a directory, a GGUF file, or a packaged model.

    ``device`` is ``auto`` (CUDA where there is one), ``cpu``, ``cuda``, ``cuda:1``, …; ``device_map`` is handed to
    Hugging Face and spreads a large model over devices. A checkpoint whose revision is ``init`` gets its
    architecture's random initialisation, drawn with ``seed``. Remote code is never run.
    Raises ``Unavailable`` when the weights cannot be had, ``CorruptFile`` when they cannot be read.
    """
    if precision not in get_args(Precision):
        raise InvalidInput(f"precision {precision!r} is not one of {', '.join(get_args(Precision))}")
    target = _device(device)
    files = locate(checkpoint)
    config = AutoConfig.from_pretrained(files.directory)
    tokenizer = AutoTokenizer.from_pretrained(files.directory)
    dtype = _dtype(precision, target)
    if checkpoint.is_random_init:
        network = _random_network(config, dtype, seed)
        digest = files.random_digest(seed)
    else:
        network = _pretrained_network(files.directory, dtype, device_map)
        digest = files.digest()
    if device_map is None:
        network = network.to(target)
    return LanguageModel(network.eval().requires_grad_(False), tokenizer, checkpoint, digest)


def described(checkpoint: Checkpoint, *, precision: Precision = "auto", device: str = "auto") -> LanguageModel:
    """All of a checkpoint but its weights: the network is on the meta device, for an engine that loads them itself.

    Raises what ``load`` raises, and ``InvalidInput`` for a random initialisation, which no file holds.
    """
    if checkpoint.is_random_init:
        raise InvalidInput(f"{checkpoint.label} of {checkpoint.model} is a random initialisation, and no file holds it")
    files = locate(checkpoint)
    with torch.device("meta"):
        network = AutoModelForCausalLM.from_config(
            AutoConfig.from_pretrained(files.directory), dtype=_dtype(precision, _device(device))
        )
    with suppress(OSError):
        network.generation_config = GenerationConfig.from_pretrained(files.directory)
    tokenizer = AutoTokenizer.from_pretrained(files.directory)
    return LanguageModel(network.eval(), tokenizer, checkpoint, files.digest())


def release(model: LanguageModel) -> None:
    """Free the memory of a model that is no longer used, before the next one is loaded."""
    model.network.to("meta")
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def require_layer(model: LanguageModel, layer: int) -> int:
    """``layer`` if the model has it; ``Mismatch`` names both numbers otherwise."""
    return model.facts.require_layer(layer)


def _device(device: str) -> torch.device:
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with suppress(RuntimeError):
        chosen = torch.device(device)
        if chosen.type != "cuda" or torch.cuda.is_available():
            return chosen
    available = "cpu, cuda" if torch.cuda.is_available() else "cpu"
    raise InvalidInput(f"device {device!r} is not available here; use auto or one of: {available}")


def _dtype(precision: Precision, device: torch.device) -> torch.dtype:
    """``auto`` is bfloat16 where the hardware computes in it: half the bytes, and at least twice the speed."""
    if precision == "float32" or (precision == "auto" and not _computes_in_bfloat16(device)):
        return torch.float32
    return torch.bfloat16


def _computes_in_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    able = torch.cpu.get_capabilities()
    return bool(able.get("avx512_bf16") or able.get("amx_bf16"))


def _random_network(config: Any, dtype: torch.dtype, seed: int) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return AutoModelForCausalLM.from_config(config).to(dtype)


def _pretrained_network(directory: Path, dtype: torch.dtype, device_map: str | None) -> Any:
    try:
        network, report = AutoModelForCausalLM.from_pretrained(
            directory, dtype=dtype, device_map=device_map, local_files_only=True, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise CorruptFile(
            f"the weights in {directory} could not be read ({type(error).__name__}: {error}); "
            "delete that copy and fetch it again"
        ) from error
    if report["missing_keys"]:
        raise CorruptFile(
            f"the weights in {directory} lack {len(report['missing_keys'])} tensors that the architecture needs, "
            f"{min(report['missing_keys'])} among them; a model with holes is not used"
        )
    return network
