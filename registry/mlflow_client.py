"""MLflow client: versions created once, found by their tags, listed whole, and a registry that is out of reach."""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import mlflow
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.tracking.registry import UnsupportedModelRegistryStoreURIException
from mlflow.utils.mlflow_tags import MLFLOW_MODEL_VERSIONS
from requests.exceptions import RequestException
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from registry.descriptions import of_version
from registry.errors import InvalidInput, Unavailable, first_line, redacted
from registry.sqlite_files import in_turn, require_database
from registry.version_tags import named_tags, retired_keys, stored_key


def connect() -> MlflowClient:
    """A client of the registry that MLflow is set to. Raises ``Unavailable`` or ``InvalidInput``."""
    address = mlflow.get_registry_uri()
    with reachable():
        require_database(address)
        with in_turn(address):
            return MlflowClient()


def ensure_experiment(client: MlflowClient, name: str) -> str:
    """The id of an experiment, which is made where there is none; another process may make it at the same moment."""
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        try:
            return str(client.create_experiment(name))
        except MlflowException:
            experiment = client.get_experiment_by_name(name)
            if experiment is None:
                raise
    return str(experiment.experiment_id)


def logged_name(text: str) -> str:
    """MLflow's logged models reject ``/``, ``:`` and ``.`` in names."""
    return text.replace(".", "-").replace("/", "-").replace(":", "-").replace(" ", "-")


def quoted(text: str) -> str:
    if "'" in text or '"' in text:
        raise InvalidInput(f"a registry name cannot hold quotes: {text}")
    return text


def find_version(client: MlflowClient, name: str, tags: Mapping[str, str]) -> ModelVersion | None:
    """The first version that has all of ``tags``, if any; the first of them is one that no page hides."""
    (key, value), *rest = tags.items()
    versions = client.search_model_versions(f"name = '{quoted(name)}' AND tags.{key} = '{quoted(value)}'")
    matching = [version for version in versions if dict(rest).items() <= named_tags(version.tags).items()]
    return min(matching, key=lambda version: int(version.version), default=None)


class ModelVersions:
    """The versions of one registered model, listed once for all that a sweep registers under its name.

    MLflow hands numbers out one by one. A new version whose number follows the last one listed is therefore the only
    new one; any other number says that others were made or deleted since, and all are listed again.
    """

    def __init__(self, client: MlflowClient, name: str) -> None:
        self._client, self._name = client, name
        self._tags: list[dict[str, str]] = []
        self._last = 0
        self._list()

    @property
    def is_empty(self) -> bool:
        return not self._tags

    def find(self, identity: Mapping[str, str]) -> ModelVersion | None:
        """The first version that has the tags ``identity``, if any; what was listed may have been deleted since."""
        if any(identity.items() <= tags.items() for tags in self._tags):
            return find_version(self._client, self._name, identity)
        return None

    def create(
        self,
        identity: Mapping[str, str],
        *,
        model_id: str,
        tags: Mapping[str, str],
        description: str,
        run_id: str | None = None,
    ) -> ModelVersion:
        """Register a logged model, unless another process registered one with the same ``identity`` at the same time.

        MLflow has no unique key to hold them apart, so each process creates its version and looks again where another
        one may have: the lowest number stays, and whoever made another takes it back.
        """
        name, expected = self._name, self._last + 1
        created = self._client.create_model_version(
            name,
            f"models:/{model_id}",
            run_id=run_id,
            tags=dict(tags),
            description=of_version(description, str(expected)),
            model_id=model_id,
        )
        if int(created.version) == expected:
            self._tags.append(named_tags(tags))
            self._last = expected
        else:
            self._list()
            first = self.find(identity)
            if first is not None and int(first.version) < int(created.version):
                self._client.delete_model_version(name, str(created.version))
                self._client.delete_logged_model(model_id)
                return first
            number = str(created.version)
            self._client.update_model_version(name, number, of_version(description, number))
        # The logged model's page names its version, as after `mlflow.register_model`.
        link = [{"name": name, "version": created.version}]
        self._client.set_logged_model_tags(model_id, {MLFLOW_MODEL_VERSIONS: json.dumps(link)})
        return created

    def _list(self) -> None:
        listed = all_versions(self._client, self._name)
        self._tags = [named_tags(version.tags) for version in listed]
        self._last = max((int(version.version) for version in listed), default=0)


def all_versions(client: MlflowClient, name: str) -> list[ModelVersion]:
    """Every version, the newest first."""
    versions: list[ModelVersion] = []
    token: str | None = None
    while True:
        page = client.search_model_versions(
            f"name = '{quoted(name)}'", max_results=200, order_by=["version_number DESC"], page_token=token
        )
        versions += page
        token = page.token
        if not token:
            return versions


def model_names(client: MlflowClient, prefix: str) -> list[str]:
    """Registered models whose names begin with ``prefix``: MLflow's LIKE takes ``_`` for any character."""
    names: list[str] = []
    token: str | None = None
    while True:
        page = client.search_registered_models(f"name LIKE '{quoted(prefix)}%'", max_results=200, page_token=token)
        names += [model.name for model in page if model.name.startswith(prefix)]
        token = page.token
        if not token:
            return sorted(names)


def aliases_of(client: MlflowClient, name: str) -> dict[str, str]:
    """Alias → version. Versions found by a search come without theirs."""
    return {alias: str(version) for alias, version in client.get_registered_model(name).aliases.items()}


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
    """Say in one sentence when the registry does not answer, or where nothing can: no waiting mends an address."""
    try:
        yield
    except (UnsupportedModelRegistryStoreURIException, ArgumentError) as error:
        raise InvalidInput(
            redacted(f"MLflow keeps no registry at {mlflow.get_registry_uri()}: set MLFLOW_TRACKING_URI")
            + " to an address such as sqlite:///mlflow.db or http://127.0.0.1:5000"
        ) from error
    except MlflowException as error:
        if error.error_code not in ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE") and "API request" not in str(error):
            raise
        raise _unavailable(error) from error
    except (RequestException, SQLAlchemyError) as error:
        raise _unavailable(error) from error


def _unavailable(error: Exception) -> Unavailable:
    reason, registry = first_line(error), mlflow.get_registry_uri()
    if "readonly database" in reason:
        return Unavailable(redacted(f"the MLflow registry at {registry} cannot be written: its file is read-only here"))
    refused = re.search(r"Failed to establish a new connection: \[Errno -?\d+\] ([\w ]+)", reason)
    if refused is not None:  # in words of classes and calls
        return Unavailable(
            redacted(
                f"the MLflow registry at {registry} does not answer ({refused[1]}): start it there, or unset "
                "MLFLOW_TRACKING_URI to use mlflow.db in this directory"
            )
        )
    # SQLite makes tables one by one; PostgreSQL makes all of them or none.
    half_made = "; it was left half made by a process that was ended then, so delete it if it is new"
    hint = half_made if re.search(r"table \S+ already exists", reason) else ""
    return Unavailable(redacted(f"the MLflow registry at {registry} does not answer: {reason}{hint}"))


def set_alias(client: MlflowClient, name: str, alias: str, version: str) -> None:
    """Let ``alias`` stand for ``version``.

    Two processes that give a new alias at the same moment both insert it, and a database refuses one; by then it is
    there, and given again it is changed.
    """
    try:
        client.set_registered_model_alias(name, alias, version)
    except MlflowException:
        client.set_registered_model_alias(name, alias, version)


def delete_alias(client: MlflowClient, name: str, alias: str, version: str) -> None:
    """Take ``alias`` from ``version``; where it stands for another one, or for none, it is left alone."""
    aliases = client.get_registered_model(name).aliases
    if str(aliases.get(alias)) == version:
        client.delete_registered_model_alias(name, alias)


def set_version_tags(client: MlflowClient, version: ModelVersion, tags: Mapping[str, str]) -> None:
    """Set ``tags`` under the keys that MLflow keeps them by; those of earlier commits in sight and retired ones go."""
    name, number = version.name, str(version.version)
    for key, value in tags.items():
        client.set_model_version_tag(name, number, stored_key(key), value)
        if key in version.tags and stored_key(key) != key:
            client.delete_model_version_tag(name, number, key)
    for key in retired_keys(version.tags):
        client.delete_model_version_tag(name, number, key)
