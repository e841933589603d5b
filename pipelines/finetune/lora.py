"""Low-rank adapters (LoRA, Hu et al. 2021) by peft, an extra: each matrix changes by a product of two thin ones."""

from importlib.util import find_spec
from typing import Any

from torch import nn

from pipelines.finetune.options import FinetuneConfig
from registry.errors import Mismatch, Unavailable
from serving.model.residual_stream import decoder_blocks

PEFT = "0.21.2"
"""The version that is tested; the same stands in ``pyproject.toml``."""


def adapt(network: nn.Module, config: FinetuneConfig) -> Any:
    """``network`` with an adapter on every linear map of its decoder blocks, which alone are to be trained.

    Its ``merge_and_unload()`` leaves ``network`` of its own kind, with the adapters added to its weights. Raises
    ``Unavailable`` where peft is not installed, ``Mismatch`` for a network whose blocks hold no linear maps.
    """
    require_peft()
    from peft import LoraConfig, LoraModel

    names = _linear_maps(network)
    if not names:
        raise Mismatch(f"the blocks of {type(network).__name__} hold no linear maps to adapt; use method=full")
    settings = LoraConfig(r=config.rank, lora_alpha=config.alpha, lora_dropout=0.0, target_modules=names)
    return LoraModel(network, settings, "default")


def require_peft() -> None:
    """Raise ``Unavailable`` where peft is not installed."""
    if find_spec("peft") is None:
        raise Unavailable(f"`method=lora` needs the peft package; run: pip install peft=={PEFT}")


def _linear_maps(network: nn.Module) -> list[str]:
    """Full names of the linear maps in the decoder blocks; the language-model head is none of them."""
    inside = {id(module) for module in decoder_blocks(network).modules()}
    return [name for name, module in network.named_modules() if isinstance(module, nn.Linear) and id(module) in inside]
