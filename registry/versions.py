"""Versions in the MLflow model registry: found by their tags, listed whole, and out of reach in one sentence."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import mlflow
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from registry.errors import InvalidInput, Unavailable


def logged_name(text: str) -> str:
    """MLflow's logged models reject ``/``, ``:`` and ``.`` in names."""
    return text.replace(".", "-").replace("/", "-").replace(":", "-").replace(" ", "-")


def quoted(text: str) -> str:
    if "'" in text or '"' in text:
        raise InvalidInput(f"a registry name cannot hold quotes: {text}")
    return text


def find_version(client: MlflowClient, name: str, tags: Mapping[str, str]) -> ModelVersion | None:
    """The version that has all of ``tags``, if any."""
    (key, value), *rest = tags.items()
    found = client.search_model_versions(f"name = '{quoted(name)}' AND tags.{key} = '{quoted(value)}'")
    return next((one for one in found if all(one.tags.get(key) == value for key, value in rest)), None)


def all_versions(client: MlflowClient, name: str) -> list[ModelVersion]:
    found: list[ModelVersion] = []
    token: str | None = None
    while True:
        page = client.search_model_versions(
            f"name = '{quoted(name)}'", max_results=200, order_by=["version_number DESC"], page_token=token
        )
        found += page
        token = page.token
        if not token:
            return found


def ensure_model(client: MlflowClient, name: str, description: str) -> None:
    try:
        client.create_registered_model(name, description=description)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def model_id_of(version: ModelVersion) -> str:
    """MLflow's own stores leave ``version.model_id`` empty; the source names it."""
    return str(version.source or "").removeprefix("models:/")


@contextmanager
def reachable() -> Iterator[None]:
    """Say in one sentence when the registry does not answer."""
    try:
        yield
    except MlflowException as error:
        if error.error_code not in ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE") and "API request" not in str(error):
            raise
        raise Unavailable(
            f"the MLflow registry at {mlflow.get_registry_uri()} does not answer: {str(error).splitlines()[0]}"
        ) from error
