"""Layers as text: ``12``, ``10-14`` for consecutive ones, ``2,10-14`` for others."""

import re
from collections.abc import Sequence

from .errors import InvalidInput

_RANGE = re.compile(r"([0-9]{1,6})(?:-([0-9]{1,6}))?")


def layers_text(layers: Sequence[int]) -> str:
    """The layers, which are in order, with runs of them by their ends."""
    runs: list[list[int]] = []
    for layer in layers:
        if runs and layer == runs[-1][-1] + 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def layer_or_range(layers: Sequence[int]) -> int | str:
    """One layer as the number that tables and files have always had; several as text."""
    return layers[0] if len(layers) == 1 else layers_text(layers)


def place_text(layers: Sequence[int]) -> str:
    """``layer 12``, or ``layers 10-14``, in a sentence."""
    return f"layer{'s' if len(layers) > 1 else ''} {layers_text(layers)}"


def read_layers(text: str) -> tuple[int, ...]:
    """The inverse. Raises ``InvalidInput`` for what is no such text, or names layers out of order."""
    layers: list[int] = []
    for part in text.split(","):
        match = _RANGE.fullmatch(part.strip())
        if match is None:
            raise InvalidInput(f"layers {text!r} are neither numbers nor ranges separated by commas, such as 2,10-14")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first or (layers and first <= layers[-1]):
            raise InvalidInput(f"layers {text!r} are out of order; name each once, the lowest first")
        layers += range(first, last + 1)
    return tuple(layers)
