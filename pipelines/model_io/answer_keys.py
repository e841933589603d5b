"""Answer keys: names in the cache of what was made of a model's own answers."""

import hashlib
import json
from collections.abc import Mapping

from serving.model.language_model import LanguageModel
from serving.model.weights import identity_of


def answer_key(model: LanguageModel, content: Mapping[str, object]) -> str:
    """Names what ``model`` made by all that decides it: its files and precision, and ``content``, as JSON holds it."""
    whole = {"files": identity_of(model.checkpoint), "precision": str(model.dtype), **content}
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()[:32]
