"""Loading: configuration, tokenizer and network of one directory, each whole and of a kind that can be used.

This is the one place where files are handed to transformers. Whatever cannot be loaded ends here in a sentence, before
anything is measured, registered or served. No code that lies beside the weights is run, and nothing is asked.
"""

import json
import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from registry.counts import counted
from registry.errors import CorruptFile, InvalidInput, Mismatch, TrustTraceError, Unavailable, first_line
from serving.model.placement import Placement
from serving.model.residual_stream import decoder_blocks, recording
from serving.model.stored_tensors import quantised, require_full_precision, require_no_adapter

CONFIG = "config.json"
BUFFERS = re.compile(
    r"(^|\.)(inv_freq|masked_bias|attn\.bias|attention\.bias|position_ids|rotary_pos_emb\.\w+|rope_freqs\.weight)$"
)
"""What old versions of transformers saved and none reads: tables that the configuration decides."""
PROBED_TOKENS = 12
"""Length of the two texts of ``require_causal``, which differ in the last token alone."""
ROUNDING = {torch.float32: 1e-4, torch.bfloat16: 0.02}
"""Largest difference of a state, relative to its norm, that rounding explains where experts get other batches."""
_PARSING = Lock()


def read_config(directory: Path) -> Any:
    """The configuration of a decoder. Raises ``InvalidInput`` for another architecture and for quantised weights."""
    given = _config_json(directory)
    kind = given.get("model_type")
    if not isinstance(kind, str) or kind not in CONFIG_MAPPING:
        if "auto_map" in given:
            raise InvalidInput(
                f"{directory} needs code of its own ({kind!r} is no architecture of transformers), and remote code is "
                "never run; convert it to an architecture of transformers, or use another model"
            )
        raise InvalidInput(
            f"{directory / CONFIG} says model_type {kind!r}, which this version of transformers does not know; use a "
            "model that it knows"
        )
    if given.get("quantization_config") is not None:
        quantisation = given["quantization_config"]
        method = quantisation.get("quant_method") if isinstance(quantisation, dict) else quantisation
        raise quantised(directory, str(method or "by an unnamed method"))
    with _edge(f"{directory / CONFIG} could not be read", "save it again with save_pretrained"):
        config = AutoConfig.from_pretrained(directory, trust_remote_code=False, local_files_only=True)
    if getattr(config, "is_encoder_decoder", False):
        raise InvalidInput(f"{directory} is an encoder-decoder ({kind}); only decoders are read and steered")
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise InvalidInput(f"{directory} is a {kind}, which has no causal language model; use a decoder")
    if not hasattr(config.get_text_config(decoder=True), "vocab_size"):
        raise CorruptFile(
            f"{directory / CONFIG} has a part for text that is no configuration of a {kind}; save it again with "
            "save_pretrained"
        )
    # A file may ask for attention by a kernel that is fetched and run; the architecture's own is used.
    config._attn_implementation = None
    config._experts_implementation = None
    return config


def _config_json(directory: Path) -> Mapping[str, Any]:
    try:
        given = json.loads((directory / CONFIG).read_text())
    except (OSError, ValueError) as error:
        raise CorruptFile(f"{directory / CONFIG} could not be read ({error}); save or fetch it again") from error
    if not isinstance(given, dict):
        raise CorruptFile(f"{directory / CONFIG} is no JSON object; save or fetch it again")
    return given


@dataclass(frozen=True)
class TokenizerSource:
    """A directory with a tokenizer; two are equal where all files that it is made from are."""

    identity: str
    directory: Path = field(compare=False)

    def make(self) -> Any:
        return AutoTokenizer.from_pretrained(self.directory, trust_remote_code=False, local_files_only=True)


shared_tokenizer = lru_cache(maxsize=1)(TokenizerSource.make)
"""The tokenizer of a series, made once for all of its checkpoints: that takes up to a second, and of each that has read
texts the library keeps the words that it cut, some megabytes, until the process ends.
"""


def read_tokenizer(directory: Path, config: Any, *, shared_as: str | None = None) -> PreTrainedTokenizerBase:
    """The tokenizer of a checkpoint. Raises ``InvalidInput`` where there is none, or one that is too large.

    With ``shared_as``, which names all files that it is made from, it is the last one that was shared under that name.
    """
    remedy = "save one there with tokenizer.save_pretrained"
    source = TokenizerSource(shared_as or "", directory)
    with _edge(f"{directory} holds no tokenizer that can be read", remedy, InvalidInput):
        tokenizer: PreTrainedTokenizerBase = shared_tokenizer(source) if shared_as else source.make()
        written = set(tokenizer("a text").input_ids)
    rows = config.get_text_config(decoder=True).vocab_size
    # A special token that no text is given, as for padding, needs no row.
    special = set(tokenizer.all_special_ids) - written
    largest = max(written | set(tokenizer.get_vocab().values()) - special, default=-1)
    if largest >= rows:
        token = tokenizer.convert_ids_to_tokens(largest)
        raise InvalidInput(
            f"the tokenizer in {directory} goes to id {largest} ({token!r}) and the embedding has {rows} rows; give "
            "the model the tokenizer that it was trained with"
        )
    return tokenizer


def read_gguf(path: Path) -> tuple[Any, PreTrainedTokenizerBase]:
    """The network of a GGUF file, de-quantised to float32, and its tokenizer. Raises ``CorruptFile``."""
    source: dict[str, Any] = {"gguf_file": path.name, "local_files_only": True}
    how = {**source, "dtype": torch.float32, "output_loading_info": True}
    require_no_adapter(path.parent, [beside.name for beside in path.parent.iterdir()])
    remedy = "fetch the file again, or another conversion of the model"
    with _edge(f"{path.name} could not be read as GGUF", remedy), _parsed_once():
        network, report = AutoModelForCausalLM.from_pretrained(path.parent, trust_remote_code=False, **how)
        tokenizer = AutoTokenizer.from_pretrained(path.parent, trust_remote_code=False, **source)
    require_whole(path, report)
    return network, tokenizer


@contextmanager
def _parsed_once() -> Iterator[None]:
    """Keep the fields of a GGUF file: transformers parses them for configuration, weights and tokenizer, in seconds."""
    import gguf

    with _PARSING:
        reader = gguf.GGUFReader
        gguf.GGUFReader = lru_cache(maxsize=1)(reader)
        try:
            yield
        finally:
            gguf.GGUFReader = reader


def read_network(directory: Path, config: Any, placement: Placement, device_map: str | None = None) -> Any:
    """The network with all of its weights, and no others. Raises ``CorruptFile``."""
    how: dict[str, Any] = {
        "config": config,
        "dtype": placement.dtype,
        "device_map": device_map,
        "local_files_only": True,
        "output_loading_info": True,
        "ignore_mismatched_sizes": True,  # the report names them
    }
    with _edge(f"the weights in {directory} could not be read", "delete that copy and fetch it again"):
        require_no_adapter(directory, [path.name for path in directory.iterdir()])
        require_full_precision(directory)
        network, report = AutoModelForCausalLM.from_pretrained(directory, trust_remote_code=False, **how)
    require_whole(directory, report)
    return network if device_map is not None else network.to(placement.device)


def random_network(directory: Path, config: Any, placement: Placement, seed: int) -> Any:
    """The architecture with weights drawn by ``seed``."""
    with _edge(f"{directory / CONFIG} describes no network that can be built", "mend it"), torch.random.fork_rng():
        torch.manual_seed(seed)
        network = AutoModelForCausalLM.from_config(config, trust_remote_code=False).to(placement.dtype)
    return network.to(placement.device)


def empty_network(directory: Path, config: Any, placement: Placement) -> Any:
    """The architecture without weights, on the meta device."""
    with _edge(f"{directory / CONFIG} describes no network that can be built", "mend it"), torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, dtype=placement.dtype, trust_remote_code=False)


def require_whole(source: Path, report: Mapping[str, Iterable[Any]]) -> None:
    """Raise ``CorruptFile`` unless transformers' report says that file and architecture hold the same tensors."""
    missing, mismatched = sorted(report["missing_keys"]), sorted(key[0] for key in report["mismatched_keys"])
    beyond = sorted(key for key in report["unexpected_keys"] if not BUFFERS.search(key))
    for names, trouble in (
        (missing, "lack {n} tensors that the architecture needs"),
        (mismatched, "hold {n} tensors of another shape than the architecture needs"),
        (beyond, "hold {n} tensors that the configuration has no place for"),
    ):
        if names:
            raise CorruptFile(
                f"the weights in {source} {trouble.format(n=len(names))}, {names[0]} among them; fetch weights and "
                "configuration again, from one checkpoint"
            )
    if messages := [str(message).splitlines()[0] for message in report.get("error_msgs", ())]:
        raise CorruptFile(f"the weights in {source} could not be read whole ({messages[0]}); fetch them again")


def require_causal(network: Any, source: Path) -> None:
    """Raise ``InvalidInput`` if the last token of a text changes what the network makes of the tokens before it.

    Raises ``Mismatch`` for a network whose hidden states cannot be read.
    """
    config = network.config.get_text_config(decoder=True)
    tokens = torch.arange(2, 2 + PROBED_TOKENS).repeat(2, 1) % config.vocab_size
    tokens[1, -1] = 0
    states: dict[int, torch.Tensor] = {}
    device = network.get_input_embeddings().weight.device
    layers = range(len(decoder_blocks(network)))
    remedy = "try precision=float32, or use a decoder of one stream of hidden states"
    with (
        _edge(f"the network in {source} does not read a text", remedy, Mismatch),
        torch.inference_mode(),
        recording(network, layers, lambda layer, read: states.__setitem__(layer, read.float().cpu())),
    ):
        network.base_model(input_ids=tokens.to(device), use_cache=False)
    if len(states) < len(layers):
        raise Mismatch(f"{len(states)} of the {counted(len(layers), 'layer')} of {source} are run on a text; {remedy}")
    for layer, read in states.items():
        difference = (read[0, :-1] - read[1, :-1]).norm(dim=-1)
        if bool((difference > ROUNDING[network.dtype] * read[0, :-1].norm(dim=-1) + 1e-6).any()):
            raise InvalidInput(
                f"{source} looks ahead: at layer {layer} a token's hidden state depends on the tokens after it, so it "
                "is no causal language model; use a decoder"
            )


@contextmanager
def _edge(trouble: str, remedy: str, kind: type[TrustTraceError] = CorruptFile) -> Iterator[None]:
    """Turn whatever transformers raises into one sentence."""
    with _quiet():
        try:
            yield
        except TrustTraceError:
            raise
        except (torch.OutOfMemoryError, MemoryError) as error:
            raise Unavailable(
                f"{trouble}: out of memory; use a larger machine, bfloat16 (`precision`, or TRUSTTRACE_PRECISION) or, "
                "in probe and information, device_map=auto"
            ) from error
        except Exception as error:
            raise kind(f"{trouble} ({type(error).__name__}: {first_line(error, 200)}); {remedy}") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers' tables of what it did not load out of the terminal: they are read, and said in a sentence."""
    logger = logging.getLogger("transformers")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
