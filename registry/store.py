"""Steering vectors in the MLflow registry: registered once, found by name, followed to their source.

A vector is ``steer.<model>.<dimension>``; the alias ``champion`` is the version a service serves. Every version
carries its lineage as tags, so that a person can follow it in the UI and a program can search by it.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from mlflow.entities import Metric
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from registry import flavor
from registry.artifacts import fetch_files, readable, scratch_folder
from registry.calibration import Calibration
from registry.comparisons import against_champion, measured_versions, with_comparison, with_measured_versions
from registry.descriptions import (
    describe_calibrated,
    describe_judged,
    describe_uncalibrated,
    describe_vector,
    describe_vectors,
)
from registry.errors import CorruptFile, Mismatch, NotFound
from registry.layers import layers_text
from registry.logged_vectors import log_vector
from registry.mlflow_client import (
    ModelVersions,
    aliases_of,
    all_versions,
    connect,
    delete_alias,
    ensure_model,
    find_version,
    model_id_of,
    model_names,
    reachable,
    set_alias,
    set_version_tags,
)
from registry.records import (
    CHAMPION,
    VECTOR_TAGS,
    RegisteredVector,
    calibration_tags,
    parse_reference,
    text_verdict_tags,
    vector_name,
    vector_tags,
)
from registry.vectors import LinearProbe, SteeringVector
from registry.verdicts import TextVerdict
from registry.version_tags import named_tags, stored_tags

logger = logging.getLogger(__name__)

_MISSING = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")


class VectorStore:
    """The steering vectors of every model."""

    def __init__(self) -> None:
        self._client = connect()
        self._versions_of: dict[str, ModelVersions] = {}

    def register(
        self,
        vector: SteeringVector,
        probe: LinearProbe | None,
        metrics: Mapping[str, float],
        *,
        unit_digest: str,
        tags: Mapping[str, str] | None = None,
        description: str = "",
        run_id: str = "",
        batch: list[Metric] | None = None,
    ) -> RegisteredVector:
        """Register ``vector`` under the active run, once for each (unit, checkpoint, layer).

        ``unit_digest`` names the measurement that it came from: a second registration returns the version that exists,
        so an interrupted sweep registers nothing twice. An import gives further ``tags``, a ``description`` and its
        own ``run_id``. Into ``batch`` go the metrics, for whoever logs others of the run with them.
        """
        name, identity = vector_name(vector.lineage.steers, vector.dimension), _identity(vector, unit_digest)
        with reachable():
            if name not in self._versions_of:
                self._versions_of[name] = ModelVersions(self._client, name)
            versions = self._versions_of[name]
            existing = versions.find(identity)
            if existing is not None:
                return self.get(name, str(existing.version))
            if versions.is_empty:
                ensure_model(self._client, name, describe_vectors(vector.lineage.steers, vector.dimension))
            version = versions.create(
                identity,
                model_id=log_vector(name, vector, probe, metrics, unit_digest, batch),
                tags=stored_tags({**(tags or {}), **vector_tags(vector, unit_digest)}),
                description=description or describe_uncalibrated(describe_vector(vector, metrics, probe), vector),
                run_id=run_id or vector.lineage.run_id,
            )
        return _vector(version, ())

    def find(self, vector: SteeringVector, unit_digest: str) -> RegisteredVector | None:
        """The version that ``register`` would return instead of a new one."""
        name = vector_name(vector.lineage.steers, vector.dimension)
        with reachable():
            existing = find_version(self._client, name, _identity(vector, unit_digest))
        return None if existing is None else self.get(name, str(existing.version))

    def get(self, name: str, version: str) -> RegisteredVector:
        """A version by number, or by alias as ``@champion``. Raises ``NotFound``, naming those that exist."""
        return self.resolve(f"{name}{version}" if version.startswith("@") else f"{name}/{version}")

    def resolve(self, reference: str) -> RegisteredVector:
        """``steer.tiny.toxicity/3``, ``steer.tiny.toxicity@champion``, either with ``models:/`` before it."""
        name, version = parse_reference(reference)
        with reachable():
            try:
                if version.startswith("@"):
                    resolved = self._client.get_model_version_by_alias(name, version[1:])
                else:
                    resolved = self._client.get_model_version(name, version)
            except MlflowException as error:
                if error.error_code not in _MISSING:
                    raise
                kind = "alias" if version.startswith("@") else "version"
                raise NotFound(f"{name} has no {kind} {version}; {self._what_exists(name, kind)}") from error
        return _vector(resolved, tuple(resolved.aliases))

    def dimensions(self, model: str) -> tuple[str, ...]:
        """The dimensions that have registered vectors of ``model``."""
        prefix = vector_name(model, "")
        with reachable():
            names = [name.removeprefix(prefix) for name in model_names(self._client, prefix)]
        # The vectors of a model called tiny.v2 begin with "steer.tiny." too; dimensions have no dots.
        return tuple(name for name in names if "." not in name)

    def list(self, model: str, dimension: str | None = None) -> list[RegisteredVector]:
        """All versions of a model's vectors, the newest first in each dimension.

        One without our tags is left out, and one whose tags cannot be read too, which the log says.
        """
        names = [vector_name(model, known) for known in self.dimensions(model) if dimension in (None, known)]
        with reachable():
            return [vector for name in names for vector in self._versions(name)]

    def experiment_id(self, registered: RegisteredVector) -> str | None:
        """The experiment of the run that a version came from, if that run is still there."""
        with reachable():
            try:
                return str(self._client.get_run(registered.run_id).info.experiment_id)
            except MlflowException as error:
                if error.error_code not in _MISSING:
                    raise
                return None

    def _versions(self, name: str) -> Iterator[RegisteredVector]:
        aliases = aliases_of(self._client, name)
        for version in all_versions(self._client, name):
            number = str(version.version)
            if version.tags.keys() >= VECTOR_TAGS:
                try:
                    yield _vector(version, tuple(alias for alias, target in aliases.items() if target == number))
                except CorruptFile as error:
                    logger.warning("left out: %s", error)

    def load(self, registered: RegisteredVector, *, d_model: int | None = None) -> SteeringVector:
        """Download a vector and check it against its tags. Raises ``Mismatch`` when they disagree."""
        return self._read(registered, (flavor.VECTOR_FILE,), d_model)[0]

    def load_with_probe(
        self, registered: RegisteredVector, *, d_model: int | None = None
    ) -> tuple[SteeringVector, LinearProbe | None]:
        """A vector and the probe registered beside it, if there is one, in one download. Raises as ``load`` does."""
        return self._read(registered, (flavor.VECTOR_FILE, flavor.PROBE_FILE), d_model)

    def _read(
        self, registered: RegisteredVector, names: tuple[str, ...], d_model: int | None
    ) -> tuple[SteeringVector, LinearProbe | None]:
        with readable(registered.uri), reachable(), scratch_folder() as scratch:
            fetch_files(self._client, registered.uri, registered.model_id, names, scratch)
            vector, probe = flavor.load_model(scratch, d_model=d_model), flavor.load_probe(scratch, d_model=d_model)
        registered.require_agrees(vector, probe)
        width = registered.tags.get("d_model", str(vector.d_model))
        if width != str(vector.d_model):
            raise Mismatch(f"{registered.uri} is tagged d_model={width} and its file has {vector.d_model}")
        return vector, probe

    def promote(self, registered: RegisteredVector, *, reason: str, alias: str = CHAMPION) -> None:
        """Point ``alias`` at a version, and write down why."""
        with reachable():
            set_alias(self._client, registered.name, alias, registered.version)
            self._client.set_model_version_tag(registered.name, registered.version, f"{alias}_because", reason)

    def demote(self, registered: RegisteredVector) -> RegisteredVector:
        """Take the alias ``champion`` from a version that was found not to work, and its recommended strength."""
        name, number = registered.name, registered.version
        with reachable():
            delete_alias(self._client, name, CHAMPION, number)
            self._client.delete_model_version_tag(name, number, f"{CHAMPION}_because")
        calibration = registered.calibration
        if calibration is None or not calibration.recommended:
            return self.get(name, number)
        return self.annotate(registered, calibration_tags(replace(calibration, recommended=0.0)))

    def calibrate(
        self, registered: RegisteredVector, calibration: Calibration, *, summary: str = "", run_page: str = ""
    ) -> RegisteredVector:
        """Store what was measured with a version; an earlier calibration of it is replaced.

        ``summary``, in Markdown, opens the version's description, with a link to ``run_page``.
        """
        tags = calibration_tags(calibration)
        measured = self.annotate(registered, tags, lambda text: describe_calibrated(text, summary, run_page))
        return self.compare(measured)

    def judge(self, registered: RegisteredVector, verdict: TextVerdict) -> RegisteredVector:
        """Store the verdict of text with a version, and open its description by it; an earlier one is replaced."""
        tags = text_verdict_tags(verdict)
        return self.compare(self.annotate(registered, tags, lambda text: describe_judged(text, verdict)))

    def compare(self, registered: RegisteredVector) -> RegisteredVector:
        """Tell on a version's page what it does beside the champion, and on its model's page what each version does."""
        name = registered.name
        with reachable():
            versions = list(self._versions(name))
            champion = next((version for version in versions if CHAMPION in version.aliases), None)
            beside = against_champion(registered, champion)
            model = self._client.get_registered_model(name)
            listed = with_measured_versions(model.description or "", measured_versions(versions))
            self._client.update_registered_model(name, listed)
        return self.annotate(registered, {}, lambda text: with_comparison(text, beside))

    def annotate(
        self, registered: RegisteredVector, tags: Mapping[str, str], describe: Callable[[str], str] = str
    ) -> RegisteredVector:
        name, number = registered.name, registered.version
        with reachable():
            version = self._client.get_model_version(name, number)
            self._client.update_model_version(name, number, describe(version.description or ""))
            set_version_tags(self._client, version, tags)
        return self.get(name, number)

    def _what_exists(self, name: str, kind: str) -> str:
        versions = [str(version.version) for version in all_versions(self._client, name)]
        if versions and kind == "alias":
            aliases = sorted(self._client.get_registered_model(name).aliases)
            present = f"aliases: {', '.join(f'@{alias}' for alias in aliases)}; or" if aliases else "nor any other:"
            return f"{present} give a version by number, such as {name}/{versions[0]}"
        if versions:
            return f"versions: {', '.join(reversed(versions))}"
        of_model = model_names(self._client, name.rpartition(".")[0] + ".")
        return f"registered vectors: {', '.join(of_model or model_names(self._client, 'steer.')) or 'none'}"


def _identity(vector: SteeringVector, unit_digest: str) -> dict[str, str]:
    """Checkpoints of equal weights share a measurement, and each keeps a version of its own."""
    lineage = vector.lineage
    return {"checkpoint": lineage.checkpoint_uri, "layer": layers_text(vector.layers), "unit_digest": unit_digest}


def _vector(version: ModelVersion, aliases: tuple[str, ...]) -> RegisteredVector:
    number = str(version.version)
    try:
        tags = named_tags(version.tags)
    except CorruptFile as error:
        raise CorruptFile(f"{version.name}/{number}: {error}") from error
    return RegisteredVector(version.name, number, tags.get("run_id", ""), model_id_of(version), tags, aliases)


__all__ = ["CHAMPION", "RegisteredVector", "VectorStore", "vector_name"]
