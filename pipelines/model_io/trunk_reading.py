"""Trunk reading: passes of a model without its head, each no further than the deepest layer that is read."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

import torch
from torch import Tensor

from serving.model.language_model import LanguageModel
from serving.model.residual_stream import DeepestWasRead, Reader, ending_behind, recording


@contextmanager
def trunk_reading(
    model: LanguageModel, layers: Sequence[int], read: Reader
) -> Iterator[Callable[[Mapping[str, Tensor]], None]]:
    """While open, a function that runs the trunk on what it is given, and hands the hidden states of ``layers`` to
    ``read``, in the thread that called it.

    A model that is spread over devices is run to its end, where it is put back.
    """
    deepest = model.n_layers if model.is_placed else max(layers)

    def run(inputs: Mapping[str, Tensor]) -> None:
        with suppress(DeepestWasRead), torch.inference_mode():
            model.trunk(**inputs, use_cache=False)

    with recording(model.network, layers, ending_behind(deepest, read)):
        yield run
