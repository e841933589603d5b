"""Champions: vectors of the registry by reference or by alias."""

from collections.abc import Sequence
from contextlib import suppress

from pipelines.cli.pasting import mlflow_run
from registry.embedded import data_argument, model_argument, registry_name
from registry.errors import Mismatch, NotFound
from registry.model_names import model_short_name, named_model
from registry.store import CHAMPION, RegisteredVector, VectorStore, vector_name
from serving.steering.bank import ServedVector


def running_champion(model: str, dimension: str) -> ServedVector | None:
    """The vector that a service steers ``dimension`` with, if there is one."""
    with suppress(NotFound):
        return named_vectors([f"{vector_name(model, dimension)}@{CHAMPION}"])[0]
    return None


def vector_to_judge(model: str, dimension: str, *, calibrate: str) -> ServedVector:
    """The champion; where it is not calibrated, or there is none, the newest calibrated vector, to show what it does.

    Raises ``NotFound`` where nothing is calibrated, with the command ``calibrate`` that mends it.
    """
    champion = running_champion(model, dimension)
    if champion is not None and champion.registered.calibration is not None:
        return champion
    store = VectorStore()
    for version in store.list(model, dimension):
        if version.calibration is not None:
            return ServedVector(version, store.load(version))
    raise NotFound(f"no vector of {model} for {dimension} is calibrated; calibrate first: {calibrate}")


def is_calibrated(model: str, dimension: str) -> bool:
    """Whether there is a vector that an evaluation can judge."""
    return any(version.calibration is not None for version in VectorStore().list(model, dimension))


def named_vectors(references: Sequence[str]) -> list[ServedVector]:
    """The versions that ``references`` name. Raises ``Mismatch`` for one whose test statements it was fitted on."""
    store = VectorStore()
    versions = [store.resolve(reference) for reference in references]
    vectors = [ServedVector(version, store.load(version)) for version in versions]
    for vector in vectors:
        require_held_out(vector)
    return vectors


def require_held_out(vector: ServedVector) -> None:
    """Raise ``Mismatch`` for a vector fitted under the paper's protocol, which holds out no fold of whole groups."""
    lineage = vector.vector.lineage
    if lineage.protocol == "paper":
        data = data_argument(lineage.statements_source)
        raise Mismatch(
            f"{vector.reference} was fitted under protocol=paper on {lineage.split} of {lineage.statements_source}, "
            "among them statements that it would be tested on; fit one under protocol=sound: "
            + mlflow_run("probe", model=model_argument(lineage.model), dimensions=vector.dimension, **data)
        )


def short_name(model: str) -> str:
    """What the registry calls a ``model``, as it was given to commands."""
    given, source = named_model(registry_name(model))
    return given or model_short_name(source.partition("@")[0].removesuffix(".gguf"))


def champion_versions(model: str) -> list[RegisteredVector]:
    """The champions of a model's dimensions; ``model`` as it was given to other commands."""
    store, short = VectorStore(), short_name(model)
    versions = []
    for dimension in store.dimensions(short):
        with suppress(NotFound):
            versions.append(store.get(vector_name(short, dimension), f"@{CHAMPION}"))
    return versions
