"""Embedded series: the names of ``tiny``, which is trained on the spot, and of the same with other seeds."""

import re
from pathlib import Path

EMBEDDED = "tiny"
"""The name of the checkpoint series that is trained on the spot; ``tiny:1`` is that of another seed."""


def embedded_seed(model: str) -> int | None:
    """The seed of the embedded series that ``model`` names, as given (``tiny:1``) or registered (``tiny-1``)."""
    match = re.fullmatch(rf"{EMBEDDED}(?:([:-])(\d{{1,9}}))?", model, re.ASCII)
    if match is None or (match[1] == "-" and Path(model).exists()):
        return None
    return int(match[2] or 0)


def embedded_name(seed: int) -> str:
    """The embedded series in the registry: ``tiny``, or ``tiny-1`` for another seed than 0."""
    return f"{EMBEDDED}-{seed}" if seed else EMBEDDED


def registry_name(model: str) -> str:
    """``model``, or the name in the registry of an embedded series: ``tiny:1`` → ``tiny-1``."""
    seed = embedded_seed(model)
    return model if seed is None else embedded_name(seed)


def spellings(model: str) -> tuple[str, ...]:
    """Every text that names the model of ``model`` in the parameters of a run."""
    seed = embedded_seed(model)
    if seed is None:
        return (model,)
    return tuple(dict.fromkeys((embedded_name(seed), f"{EMBEDDED}:{seed}", f"{EMBEDDED}-{seed}")))
