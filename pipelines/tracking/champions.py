"""Champions: vectors of the registry by reference or by alias."""

from collections.abc import Sequence
from contextlib import suppress

from registry.checkpoints import model_short_name
from registry.errors import NotFound
from registry.store import CHAMPION, RegisteredVector, VectorStore, vector_name
from serving.steering.bank import LiveVector


def champion_of(model: str, dimension: str) -> LiveVector:
    """The vector that a service would steer ``dimension`` with. Raises ``NotFound``, saying what to do."""
    try:
        return named_vectors([f"{vector_name(model, dimension)}@{CHAMPION}"])[0]
    except NotFound as error:
        raise NotFound(f"{error}; calibrate first: mlflow run . -e calibrate -P model={model}") from error


def named_vectors(references: Sequence[str]) -> list[LiveVector]:
    """The versions that ``references`` name."""
    store = VectorStore()
    found = [store.resolve(one) for one in references]
    return [LiveVector(one, store.load(one)) for one in found]


def champion_versions(model: str) -> list[RegisteredVector]:
    """The champions of a model's dimensions; ``model`` as it was given to other commands."""
    store = VectorStore()
    short = model_short_name(model.partition("@")[0].removesuffix(".gguf"))
    found = []
    for dimension in store.dimensions(short):
        with suppress(NotFound):
            found.append(store.get(vector_name(short, dimension), f"@{CHAMPION}"))
    return found
