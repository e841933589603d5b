"""Baked checkpoint: a constant offset of the residual stream as the bias of a decoder block's last projection.

The output of block ``l`` is its input plus what attention and feed-forward network add, and the last projection of the
latter adds last. An offset at layer ``l`` is therefore a bias there, which a runtime that knows no steering applies, at
every token. Not where a norm follows the projection, or where the architecture has no bias there: what was saved is
loaded again and compared with the steered model, and deleted unless both give the same logits.
"""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float32
from torch import Tensor, nn
from transformers import AutoModelForCausalLM
from transformers.pytorch_utils import Conv1D

from registry.errors import InvalidInput, TrustTraceError, Unavailable
from serving.model.language_model import LanguageModel
from serving.model.loading import read_config, read_network
from serving.model.placement import Placement
from serving.model.residual_stream import decoder_blocks, steering

PROJECTIONS = ("mlp.down_proj", "mlp.dense_4h_to_h", "mlp.c_proj", "mlp.fc2", "mlp.fc_out", "ffn.down_proj", "fc2")
"""The last projection of a block: Llama, GPT-NeoX, GPT-2, Phi, GPT-J, MPT, OPT."""
BIAS_SWITCH = "mlp_bias"
"""What makes Llama's feed-forward network have biases, in its configuration."""
ORIGIN = "baked.json"
"""Beside a baked checkpoint: what it was made of."""
TOLERANCE = 1e-3
"""Largest difference of a logit, relative to their standard deviation, that the order of additions explains."""

Offsets = Mapping[int, Float32[Tensor, " d_model"]]


def bake(model: LanguageModel, offsets: Offsets, directory: Path, origin: Mapping[str, object]) -> None:
    """Write ``model`` with ``offsets`` as biases to ``directory``: whole, or not there at all.

    ``origin`` is kept beside it, with the weights that it was made of. Raises ``InvalidInput`` for an architecture that
    cannot carry them, by name, and where something else is in the way. ``model`` is float32, and is left as it was.
    """
    require_baked(directory)
    tokens = torch.arange(1, 25).remainder(model.network.config.get_text_config(decoder=True).vocab_size)[None]
    tokens = tokens.to(model.device)
    with torch.inference_mode(), steering(model.network, offsets):
        wanted = model.network(input_ids=tokens, use_cache=False).logits
    baked = with_biases(model.network, offsets)
    scratch = directory.parent / f".{directory.name}-{os.getpid()}"
    try:
        scratch.mkdir(parents=True)
        baked.save_pretrained(scratch)
        model.tokenizer.save_pretrained(scratch)
        made_of = {"model": model.checkpoint.model, "weights_digest": model.weights_digest, **origin}
        (scratch / ORIGIN).write_text(json.dumps(made_of, indent=2) + "\n")
        _require_same(wanted, tokens, scratch, model)
        shutil.rmtree(directory, ignore_errors=True)
        os.replace(scratch, directory)
    except OSError as error:
        raise Unavailable(f"{directory} cannot be written ({error.strerror}); give another folder as `to`") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def require_baked(directory: Path) -> None:
    """Raise ``InvalidInput`` where anything is in the way but a baked checkpoint, which is made anew."""
    if not directory.exists() or (directory / ORIGIN).is_file():
        return
    if not directory.is_dir() or any(directory.iterdir()):
        raise InvalidInput(
            f"{directory}, where the baked checkpoint goes, holds something else (no {ORIGIN}); move it, or give "
            "another folder as `to`"
        )


def with_biases(network: Any, offsets: Offsets) -> Any:
    """A copy of ``network`` with ``offsets`` added to the biases of its blocks' last projections."""
    config, weights = type(network.config).from_dict(network.config.to_dict()), dict(network.state_dict())
    blocks = decoder_blocks(network)
    names = {layer: _projection(network, blocks[layer]) for layer in offsets}
    if any(blocks[layer].get_submodule(name).bias is None for layer, name in names.items()):
        if getattr(config, BIAS_SWITCH, None) is not False:
            raise InvalidInput(_refusal(network, "its feed-forward network has no bias"))
        setattr(config, BIAS_SWITCH, True)
    copy = AutoModelForCausalLM.from_config(config, dtype=network.dtype, trust_remote_code=False)
    _, unexpected = copy.load_state_dict(weights, strict=False)
    if unexpected:
        raise InvalidInput(_refusal(network, f"its copy has no place for {unexpected[0]}"))
    copied = decoder_blocks(copy)
    with torch.no_grad():
        if getattr(config, BIAS_SWITCH, None) and not getattr(network.config, BIAS_SWITCH, None):
            _clear_new_biases(copy, weights)
        for layer, name in names.items():
            bias: Any = copied[layer].get_submodule(name).bias
            bias += offsets[layer].to(bias.device, bias.dtype)
    return copy.eval().requires_grad_(False)


def _projection(network: Any, block: nn.Module) -> str:
    modules = dict(block.named_modules())
    for name in PROJECTIONS:
        if isinstance(modules.get(name), nn.Linear | Conv1D):
            return name
    raise InvalidInput(_refusal(network, "no last projection of its blocks is known"))


def _clear_new_biases(copy: Any, weights: Mapping[str, Tensor]) -> None:
    for name, parameter in copy.named_parameters():
        if name.endswith(".bias") and name not in weights:
            parameter.zero_()


def _require_same(wanted: Tensor, tokens: Tensor, directory: Path, model: LanguageModel) -> None:
    """Raise ``InvalidInput`` unless the checkpoint in ``directory`` gives the logits of the steered model."""
    placement = Placement("float32", str(model.device))
    try:
        again = read_network(directory, read_config(directory), placement).eval()
    except TrustTraceError as error:
        raise InvalidInput(_refusal(model.network, f"what was saved cannot be loaded: {error}")) from error
    with torch.inference_mode():
        logits = again(input_ids=tokens, use_cache=False).logits
    difference = float((logits - wanted).abs().max() / wanted.std())
    if not difference <= TOLERANCE:
        reason = f"its logits differ from the steered model's by {difference:.2g} standard deviations"
        raise InvalidInput(_refusal(model.network, reason))


def _refusal(network: Any, reason: str) -> str:
    return (
        f"{type(network).__name__} cannot carry an offset as a bias ({reason}): use the control vectors in gguf/, or a "
        "service that steers; give baked=false"
    )
