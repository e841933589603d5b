"""Residual stream of a decoder, read and steered: the tensor between blocks, ``[batch, seq, d_model]``.

Layer ``l`` is the output of decoder block ``l``, counted from 0. Hugging Face's ``hidden_states[l + 1]`` is the same
tensor for every layer but the last, where theirs is taken after the final norm; so this module reads by hook.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from registry.counts import counted
from registry.errors import Mismatch

Reader = Callable[[int, Tensor], None]
"""Called with a layer and its hidden states ``[batch, seq, d_model]``, in layer order, during the forward pass."""

Rewriter = Callable[[int, Tensor], Tensor]
"""Called like a ``Reader``; gives the hidden states that the next block sees, of the same shape and type."""

BLOCK_PATHS = ("layers", "h", "blocks", "decoder.layers", "language_model.layers")
"""Where the blocks lie below the trunk: Llama, Mistral, Qwen, Gemma, OLMo, GPT-NeoX; GPT-2; MPT; OPT; Gemma 3."""


def decoder_blocks(network: nn.Module) -> nn.ModuleList:
    """The decoder blocks of a Hugging Face causal language model, in order.

    Raises ``Mismatch`` if no list of ``num_hidden_layers`` modules is found.
    """
    trunk = getattr(network, "base_model", network)
    expected = int(network.config.get_text_config(decoder=True).num_hidden_layers)  # type: ignore[union-attr, operator]
    for path in BLOCK_PATHS:
        with suppress(AttributeError):
            blocks = trunk.get_submodule(path)
            if isinstance(blocks, nn.ModuleList) and len(blocks) == expected:
                return blocks
    named = dict(trunk.named_modules())
    for module in named.values():
        if isinstance(module, nn.ModuleList) and len(module) == expected:
            return module
    lengths = sorted({len(module) for module in named.values() if isinstance(module, nn.ModuleList)})
    raise Mismatch(
        f"{type(network).__name__} declares {counted(expected, 'hidden layer')} but holds module lists of "
        f"lengths {lengths}; only decoders built of one list of blocks can be read"
    )


def hidden_states_of(output: Tensor | tuple[Tensor, ...]) -> Tensor:
    """The hidden states in a block's output: transformers 5 returns a tensor, older versions a tuple.

    Raises ``Mismatch`` for a network that hands on several streams of them.
    """
    states = output if isinstance(output, Tensor) else output[0]
    if states.ndim != 3:
        raise Mismatch(
            f"hidden states between blocks have shape {list(states.shape)} and only one stream, [batch, seq, d_model], "
            "can be read and steered; use another model"
        )
    return states


@contextmanager
def recording(network: nn.Module, layers: Iterable[int], read: Reader) -> Iterator[None]:
    """While open, every forward pass of ``network`` hands the hidden states of ``layers`` to ``read``.

    The model is borrowed: on leaving, also by an exception, it is as it was before.
    """
    blocks = decoder_blocks(network)
    handles = [blocks[layer].register_forward_hook(_reading(layer, read)) for layer in layers]
    try:
        yield
    finally:
        _remove(handles)


class DeepestWasRead(Exception):
    """Ends a pass."""


def ending_behind(deepest: int, read: Reader) -> Reader:
    """``read``, which then ends the pass behind the layer ``deepest`` by ``DeepestWasRead``."""

    def read_and_end(layer: int, states: Tensor) -> None:
        read(layer, states)
        if layer == deepest:
            raise DeepestWasRead

    return read_and_end


@contextmanager
def recording_to_deepest(network: nn.Module, layers: Iterable[int], read: Reader) -> Iterator[None]:
    """As ``recording``, for one pass: it ends behind the deepest of ``layers``, and with it what the context holds."""
    wanted = list(layers)
    with suppress(DeepestWasRead), recording(network, wanted, ending_behind(max(wanted), read)):
        yield


@contextmanager
def steering(network: nn.Module, offsets: Mapping[int, Tensor]) -> Iterator[None]:
    """While open, every forward pass of ``network`` adds ``offsets[layer]`` to the hidden states of ``layer``.

    An offset is ``[d_model]``, or any shape that broadcasts to ``[batch, seq, d_model]``. Layers without one are not
    touched. A ``recording`` opened inside reads the states with the offsets added. On leaving, also by an exception,
    the model is as it was before.
    """

    def add(layer: int, states: Tensor) -> Tensor:
        return states + offsets[layer].to(states.device, states.dtype)

    with rewriting(network, offsets, add):
        yield


@contextmanager
def rewriting(network: nn.Module, layers: Iterable[int], rewrite: Rewriter) -> Iterator[None]:
    """While open, every forward pass of ``network`` goes on with the states that ``rewrite`` gives for ``layers``.

    A context opened later sees the states that earlier ones left. On leaving, also by an exception, the model is as it
    was.
    """
    blocks = decoder_blocks(network)
    handles = [blocks[layer].register_forward_hook(_rewriting(layer, rewrite)) for layer in layers]
    try:
        yield
    finally:
        _remove(handles)


_Output = Tensor | tuple[Tensor, ...]


def _rewriting(layer: int, rewrite: Rewriter) -> Callable[[nn.Module, object, _Output], _Output]:
    def hook(_module: nn.Module, _inputs: object, output: _Output) -> _Output:
        states = rewrite(layer, hidden_states_of(output))
        return states if isinstance(output, Tensor) else (states, *output[1:])

    return hook


def _reading(layer: int, read: Reader) -> Callable[[nn.Module, object, Tensor | tuple[Tensor, ...]], None]:
    def hook(_module: nn.Module, _inputs: object, output: Tensor | tuple[Tensor, ...]) -> None:
        read(layer, hidden_states_of(output))

    return hook


def _remove(handles: list[RemovableHandle]) -> None:
    for handle in handles:
        handle.remove()
