"""Models that need no address: ``tiny``, trained on the spot with any seed, and those that a package carries."""

import re
from pathlib import Path

EMBEDDED = "tiny"
"""The name of the checkpoint series that is trained on the spot; ``tiny:1`` is that of another seed."""

FILE = "file:"
"""Before the name of the file in the source of a user's own statements."""
PACKAGED = ("smollm2",)
"""Models that a hash-pinned package carries: no hub is needed for them."""


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


def model_argument(model: str) -> str:
    """What a command takes for a model of the registry, where its name alone tells; else words for the user to fill in.

    The registry knows a model by its short name, and not where it lies.
    """
    seed = embedded_seed(model)
    if seed is not None:
        return f"{EMBEDDED}:{seed}" if seed else EMBEDDED
    return model if model in PACKAGED else f"<path or hub id of {model}>"


def data_argument(source: str) -> dict[str, str]:
    """What a command takes for statements of a file, as words for the user to fill in; nothing for packaged ones.

    The registry knows a file by its name, and not where it lies.
    """
    name = source.removeprefix(FILE)
    return {} if name == source else {"data": f"<path of {name}>"}
