"""Records of the registry: the names of its entries, and their lineage as tags."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from registry.calibration import Calibration
from registry.checkpoints import Checkpoint
from registry.errors import CorruptFile, InvalidInput, Mismatch, NotFound
from registry.examples import Example
from registry.joint import JointLimit
from registry.layers import layers_text, read_layers
from registry.vectors import Lineage, LinearProbe, SteeringVector
from registry.verdicts import TextVerdict

CHAMPION = "champion"
"""Alias of the version that a service serves."""
CHALLENGER = "challenger"
"""Alias of the version that a share of requests is steered by, in the champion's place."""

BECAUSE_TAG = f"{CHAMPION}_because"
CALIBRATION_TAG = "calibration"
EXAMPLE_TAG = "example"
IMPORTED_TAG = "imported_from"
"""The version that an imported one was where it was made."""
PACK_TAG = "pack_digest"
"""The pack that it was imported from."""
EXPERIMENT = "trusttrace"
"""The experiment of every command's runs, unless another is named."""
TEXT_VERDICT_TAG = "text_verdict"
JOINT_LIMIT_TAG = "joint_limit"

CHECKPOINT_TAGS = frozenset({"step", "revision", "weights_digest"})
VECTOR_TAGS = frozenset({"dimension", "layer", "checkpoint", "checkpoint_step"})
"""What a version must be tagged with to be one of ours."""

_REFERENCE = re.compile(r"(?:models:/)?(steer\.[^/@:'\"]+\.[^/@:.'\"]+)(?:/([0-9]{1,9})|(@[^/@:'\"]+))")


@dataclass(frozen=True)
class RegisteredCheckpoint:
    """One version of ``ckpt.<model>``."""

    name: str
    version: str
    model_id: str
    tags: Mapping[str, str]

    def __post_init__(self) -> None:
        _require_tags(self.name, self.version, self.tags, CHECKPOINT_TAGS)

    @property
    def uri(self) -> str:
        return f"models:/{self.name}/{self.version}"

    @property
    def step(self) -> int:
        return int(self.tags["step"])

    @property
    def checkpoint(self) -> Checkpoint:
        """What was registered. Raises ``NotFound`` for a version that does not say where its weights lie."""
        if "repo" not in self.tags:
            raise NotFound(f"{self.uri} has no tag repo: it does not say where its weights lie")
        ingredient, tokens = (self.tags.get(tag) for tag in ("ingredient", "tokens"))
        return Checkpoint(
            self.name.removeprefix(checkpoint_name("")),
            self.tags["repo"],
            self.tags["revision"],
            self.step,
            self.tags.get("stage", ""),
            None if ingredient is None else int(ingredient),
            None if tokens is None else int(tokens),
            int(self.tags.get("place", 0)),
        )


@dataclass(frozen=True)
class RegisteredVector:
    """One version of ``steer.<model>.<dimension>``, with the lineage in its tags.

    Raises ``Mismatch`` for one without our tags, ``CorruptFile`` for one whose numbers are none.
    """

    name: str
    version: str
    run_id: str
    model_id: str
    tags: Mapping[str, str]
    aliases: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _require_tags(self.name, self.version, self.tags, VECTOR_TAGS)
        try:
            read_layers(self.tags["layer"])
            for tag in ("checkpoint_step", "n_train"):
                int(self.tags.get(tag, "0"))
        except ValueError as error:
            raise CorruptFile(f"{self.uri} has a tag that cannot be read ({error}); register it again") from error

    @property
    def uri(self) -> str:
        return f"models:/{self.name}/{self.version}"

    @property
    def dimension(self) -> str:
        return self.tags["dimension"]

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers that it steers, in order."""
        return read_layers(self.tags["layer"])

    @property
    def layer(self) -> int:
        """The layer of a version of one. Raises ``InvalidInput`` for one of several."""
        if len(self.layers) > 1:
            raise InvalidInput(f"{self.uri} steers layers {self.tags['layer']}; read its `layers`")
        return self.layers[0]

    @property
    def checkpoint_uri(self) -> str:
        return self.tags["checkpoint"]

    @property
    def checkpoint_step(self) -> int:
        return int(self.tags["checkpoint_step"])

    @property
    def calibration(self) -> Calibration | None:
        """What `-e calibrate` measured for this version, if it did. Raises ``CorruptFile``."""
        text = self.tags.get(CALIBRATION_TAG)
        return None if text is None else Calibration.from_json(text)

    @property
    def recommended(self) -> float:
        """The strength to use; 0 where none is recommended, or where what is written does not improve by it."""
        calibration, verdict = self.calibration, self.text_verdict
        return calibration.recommended if calibration and (verdict is None or verdict.works) else 0.0

    @property
    def example(self) -> Example | None:
        """A prompt at which it shows, if it was exported with one. Raises ``CorruptFile``."""
        text = self.tags.get(EXAMPLE_TAG)
        return None if text is None else Example.from_json(text)

    @property
    def is_refuted(self) -> bool:
        """Whether text showed that it does not work. Raises ``CorruptFile``."""
        verdict = self.text_verdict
        return verdict is not None and not verdict.works

    def is_refuted_at(self, strength: float) -> bool:
        """Whether `-e evaluate -P by=text` showed that at this strength it does not work. Raises ``CorruptFile``."""
        verdict = self._latest_text_verdict
        return verdict is not None and not verdict.works and verdict.strength == strength

    @property
    def text_verdict(self) -> TextVerdict | None:
        """What `-e evaluate -P by=text` measured for it, at the strength that is recommended now, if it did.

        Raises ``CorruptFile``.
        """
        verdict, calibration = self._latest_text_verdict, self.calibration
        if verdict is None or calibration is None or calibration.recommended not in (0.0, verdict.strength):
            return None
        return verdict

    @property
    def _latest_text_verdict(self) -> TextVerdict | None:
        """At whatever strength it was measured."""
        text = self.tags.get(TEXT_VERDICT_TAG)
        return None if text is None else TextVerdict.from_json(text)

    @property
    def joint_limit(self) -> JointLimit | None:
        """The limit for the champions together, if this one was measured so at its present strength.

        Raises ``CorruptFile``.
        """
        text, calibration = self.tags.get(JOINT_LIMIT_TAG), self.calibration
        limit = None if text is None else JointLimit.from_json(text)
        if limit is None or calibration is None or limit.strengths.get(self.dimension) != calibration.recommended:
            return None
        return limit

    def require_agrees(self, vector: SteeringVector, probe: LinearProbe | None = None) -> None:
        """Raise ``Mismatch`` when a file from this version says something else than its tags.

        The probe beside a vector reads the lowest layer that it steers.
        """
        self._require_said(lineage_tags(vector.dimension, vector.layers, vector.lineage))
        if probe is not None:
            said = lineage_tags(probe.dimension, (probe.layer, *vector.layers[1:]), probe.lineage)
            self._require_said(said)

    def _require_said(self, tags: Mapping[str, str]) -> None:
        for tag, said in tags.items():
            if self.tags.get(tag, said) != said:
                raise Mismatch(f"{self.uri} is tagged {tag}={self.tags[tag]} and its file says {said}")


def checkpoint_name(model: str) -> str:
    return f"ckpt.{model}"


def vector_name(model: str, dimension: str) -> str:
    return f"steer.{model}.{dimension}"


def parse_reference(reference: str) -> tuple[str, str]:
    """``steer.tiny.toxicity/3`` → its name and ``3``; ``steer.tiny.toxicity@champion`` → its name and ``@champion``.

    Either may begin with ``models:/``. Raises ``InvalidInput`` for anything else.
    """
    match = _REFERENCE.fullmatch(reference)
    if match is None:
        raise InvalidInput(f"{reference!r} names no vector; write steer.<model>.<dimension>/<version> or …@champion")
    name, version, alias = match.groups()
    return name, version or alias


def checkpoint_tags(checkpoint: Checkpoint, weights_digest: str) -> dict[str, str]:
    staged = {
        **{"stage": checkpoint.stage, "ingredient": checkpoint.ingredient, "tokens": checkpoint.tokens},
        "place": checkpoint.place or None,
    }
    return {
        "repo": checkpoint.repo,
        "revision": checkpoint.revision,
        "step": str(checkpoint.step),
        "weights_digest": weights_digest,
        **{tag: str(value) for tag, value in staged.items() if value not in ("", None)},
    }


def checkpoint_alias(checkpoint: Checkpoint) -> str:
    """``step-512`` in a series of one stage, ``stage2-ingredient1-step-512`` in one of several, ``main`` at its end."""
    return checkpoint.label.replace(" ", "-")


def lineage_tags(dimension: str, layers: Sequence[int], lineage: Lineage) -> dict[str, str]:
    values = lineage.to_strings()
    return {"dimension": dimension, "layer": layers_text(layers), "checkpoint": values.pop("checkpoint_uri"), **values}


def vector_tags(vector: SteeringVector, unit_digest: str) -> dict[str, str]:
    return {
        **lineage_tags(vector.dimension, vector.layers, vector.lineage),
        "d_model": str(vector.d_model),
        "unit_digest": unit_digest,
    }


def calibration_tags(calibration: Calibration) -> dict[str, str]:
    """The curve for programs, and beside it what a person looks for in the UI."""
    return {
        CALIBRATION_TAG: calibration.to_json(),
        "recommended_strength": f"{calibration.recommended:g}",
    }


def joint_limit_tags(limit: JointLimit) -> dict[str, str]:
    return {JOINT_LIMIT_TAG: limit.to_json()}


def text_verdict_tags(verdict: TextVerdict) -> dict[str, str]:
    """The verdict for programs, and beside it what a person looks for in the UI."""
    return {TEXT_VERDICT_TAG: verdict.to_json(), **verdict.outcome()}


def _require_tags(name: str, version: str, tags: Mapping[str, str], required: frozenset[str]) -> None:
    missing = sorted(required - tags.keys())
    if missing:
        raise Mismatch(f"{name}/{version} lacks the tags {', '.join(missing)}; it was registered by something else")
