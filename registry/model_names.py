"""Model names: what a model is called in the registry, by its source or as the user names it."""

import re
import unicodedata
from pathlib import Path

from registry.errors import InvalidInput

_UNSAFE = re.compile(r"[^\w.-]+")


def named_model(model: str) -> tuple[str, str]:
    """``seed-a=/runs/a`` → the name ``seed-a`` and the model; the name is empty where none is given."""
    name, equals, source = model.partition("=")
    if not (equals and source and re.fullmatch(r"[\w.-]+", name)) or Path(model).expanduser().exists():
        return "", model
    return model_short_name(name), source


def model_short_name(repo: str) -> str:
    """``EleutherAI/pythia-70m`` → ``pythia-70m``: what registry names can hold."""
    short = _UNSAFE.sub("-", unicodedata.normalize("NFC", repo.rstrip("/").rsplit("/", 1)[-1]).lower()).strip("-.")
    if not short:
        raise InvalidInput(f"no registry name can be made of {repo!r}; it needs a letter or a digit")
    return short
