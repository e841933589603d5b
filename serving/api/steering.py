"""From what a request says about steering to a plan on the live bank, and what is told about it afterwards."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from registry.errors import CorruptFile, Mismatch, UnknownName, unknown_name
from registry.registered import CHAMPION, RegisteredVector
from serving.api.errors import DoseExceeded, InvalidSteering, NotServing, VectorMismatch, VectorNotFound
from serving.api.schemas import Apply, OnExceed, Steering, SteeringChoice, VectorChoice
from serving.catalog import Live, Loaded, RegistryHealth
from serving.model.steering_bank import SteeringPlan, VectorStrength, plan, relative_dose

RECOMMENDED = 2.0
"""How far an uncalibrated vector is recommended to be used, in standard deviations."""


@dataclass(frozen=True)
class Range:
    """The strengths at which one vector may be used, and those at which it should be."""

    low: float
    high: float
    recommended: tuple[float, float]
    calibrated: bool

    def __contains__(self, strength: float) -> bool:
        return self.low <= strength <= self.high

    def clamp(self, strength: float) -> float:
        return min(max(strength, self.low), self.high)


@dataclass(frozen=True)
class Limits:
    """By what strengths are bounded on the model that is served."""

    norms: Mapping[int, float]
    """Median length of hidden states, by layer."""
    dose: float
    """Longest offset of an uncalibrated vector, as a share of that."""

    def range_of(self, one: Loaded) -> Range:
        """The calibrated range of a version, where it was calibrated; else as far as its offset stays within limits."""
        try:
            calibration = one.registered.calibration
        except CorruptFile:
            calibration = None
        if calibration is not None:
            best = calibration.recommended
            return Range(calibration.low, calibration.high, (min(0.0, best), max(0.0, best)), True)
        furthest = self.dose / one.vector.relative_dose(1.0, self.norms)
        usual = min(RECOMMENDED, furthest)
        return Range(-furthest, furthest, (-usual, usual), False)


@dataclass(frozen=True)
class Applied:
    """One vector of a request, as it is used."""

    one: Loaded
    strength: float
    requested: float
    apply: Apply
    param: str
    """The field of the request that asked for it."""


@dataclass(frozen=True)
class Resolved:
    """A request's steering: its plan, and what the reply says of it."""

    plan: SteeringPlan
    applied: tuple[dict[str, Any], ...]
    warnings: tuple[str, ...]

    def told(self, prompt: int, generation: int) -> dict[str, Any]:
        """The reply's ``steering``, with how many tokens of each phase were steered."""
        steered = {"prompt": prompt, "generation": generation}
        found = {"applied": list(self.applied), "fingerprint": self.plan.fingerprint, "tokens_steered": steered}
        return {**found, "warnings": list(self.warnings)} if self.warnings else found


@dataclass(frozen=True)
class Resolver:
    """Everything that the steering of one request is resolved against."""

    live: Live
    health: RegistryHealth
    limits: Limits
    defaults: Mapping[str, float]

    def resolve(self, choice: SteeringChoice, param: str = "steering") -> Resolved:
        """Raises ``InvalidSteering``, ``VectorNotFound``, ``VectorMismatch``, ``DoseExceeded`` or ``NotServing``."""
        spec = Steering(vectors=[]) if choice is None or choice == "off" else choice
        strengths = {} if choice == "off" else {**self.defaults, **spec.strengths}
        warnings: list[str] = []
        wanted = [*self._by_dimension(strengths, param), *self._by_reference(spec.vectors, param)]
        _require_each_once(wanted)
        used = [self._bounded(one, spec.on_exceed, warnings) for one in wanted]
        used = self._bounded_together(used, spec.on_exceed, warnings)
        steering = self._plan(used)
        return Resolved(steering, tuple(self._told(one) for one in used if one.strength), tuple(warnings))

    def champion(self, dimension: str, param: str) -> Loaded:
        found = self.live.champion(dimension)
        if found is not None:
            return found
        self._require_registry()
        refused = self.live.refused.get(dimension)
        if refused is not None:
            code = "vector_checkpoint_mismatch" if isinstance(refused, Mismatch) else "vector_unavailable"
            raise VectorMismatch(f"{dimension} cannot be steered: {refused}", param=param, code=code)
        if not self.live.bank.champions:
            model = self.live.bank.model
            raise InvalidSteering(
                f"no vectors of {model} are registered; make some with mlflow run . -e calibrate -P model={model}",
                param=param,
            )
        raise InvalidSteering(str(unknown_dimension(dimension, self.live)), param=param)

    def _require_registry(self) -> None:
        if not self.health.reached:
            raise NotServing(f"steering is not possible yet: {self.health.problem or 'the registry is being read'}")

    def _by_dimension(self, strengths: Mapping[str, float], param: str) -> Iterator[Applied]:
        for dimension, strength in strengths.items():
            place = f"{param}.strengths.{dimension}"
            yield Applied(self.champion(dimension, place), strength, strength, Apply(), place)

    def _by_reference(self, choices: list[VectorChoice], param: str) -> Iterator[Applied]:
        for index, choice in enumerate(choices):
            place = f"{param}.vectors.{index}"
            one = self._referenced(choice.ref.removeprefix("models:/"), f"{place}.ref")
            own = [one.vector.layer]
            if choice.layers is not None and choice.layers != own:
                message = f"{one.vector.reference} was fitted at layer {own[0]} and is asked for at {choice.layers}"
                raise InvalidSteering(f"{message}; leave layers out", param=f"{place}.layers")
            yield Applied(one, choice.strength, choice.strength, choice.apply, f"{place}.strength")

    def _referenced(self, reference: str, param: str) -> Loaded:
        name, _, alias = reference.partition("@")
        by_alias = {one.registered.name: one for one in map(self.live.champion, self.live.bank.champions) if one}
        found = by_alias.get(name) if alias == CHAMPION else self.live.loaded.get(reference)
        if found is None:
            self._require_registry()
            live = ", ".join(self.live.loaded) or "none"
            message = f"{reference} is not live; live: {live}; POST /v1/steering/vectors loads another"
            raise VectorNotFound(message, param=param)
        return found

    def _bounded(self, one: Applied, on_exceed: OnExceed, warnings: list[str]) -> Applied:
        allowed, reference = self.limits.range_of(one.one), one.one.vector.reference
        if one.strength in allowed:
            low, high = allowed.recommended
            if not low <= one.strength <= high:
                warnings.append(f"{reference}: strength {one.strength:g} is beyond the recommended {low:g} to {high:g}")
            return one
        kind = "calibrated" if allowed.calibrated else "uncalibrated"
        message = (
            f"strength {one.strength:g} on {reference} is beyond its {kind} range, {allowed.low:.3g} to "
            f"{allowed.high:.3g}"
        )
        if on_exceed == "reject":
            raise DoseExceeded(f"{message}; lower it, or set on_exceed to clamp or warn", param=one.param)
        warnings.append(f"{message}; {'clamped' if on_exceed == 'clamp' else 'applied all the same'}")
        return replace(one, strength=allowed.clamp(one.strength)) if on_exceed == "clamp" else one

    def _bounded_together(self, used: list[Applied], on_exceed: OnExceed, warnings: list[str]) -> list[Applied]:
        """Vectors of one layer add up: their sum may be no longer than the limit, or the longest of them may be."""
        for layer, dose in relative_dose(self._plan(used), self.limits.norms).items():
            here = [one for one in used if one.one.vector.layer == layer and one.strength]
            alone = [one.one.vector.relative_dose(one.strength, self.limits.norms) for one in here]
            most = max(self.limits.dose, *alone)
            if len(here) < 2 or dose <= most * (1 + 1e-6):
                continue
            message = f"the strengths at layer {layer} add up to a relative dose of {dose:.3g}, over {most:.3g}"
            if on_exceed == "reject":
                param = here[0].param.rpartition(".strength")[0]
                raise DoseExceeded(f"{message}; lower them, or set on_exceed to clamp or warn", param=param)
            warnings.append(f"{message}; {'clamped' if on_exceed == 'clamp' else 'applied all the same'}")
            if on_exceed == "clamp":
                share = most / dose
                used = [replace(one, strength=one.strength * share) if one in here else one for one in used]
        return used

    def _plan(self, used: list[Applied]) -> SteeringPlan:
        rows = {one.reference: row for row, one in enumerate(self.live.bank.vectors)}
        strengths = [
            VectorStrength(rows[one.one.vector.reference], one.strength, one.apply.prompt, one.apply.generation)
            for one in used
        ]
        return plan(self.live.bank, strengths)

    def _told(self, used: Applied) -> dict[str, Any]:
        registered = used.one.registered
        clamped = {} if used.strength == used.requested else {"requested": used.requested}
        return {
            "dimension": registered.dimension,
            "vector": registered.name,
            "version": registered.version,
            "run_id": registered.run_id,
            "checkpoint": registered.checkpoint_uri.removeprefix("models:/"),
            "step": registered.checkpoint_step,
            "layers": [registered.layer],
            "strength": used.strength,
            **clamped,
            "relative_dose": round(used.one.vector.relative_dose(used.strength, self.limits.norms), 6),
            "apply": used.apply.model_dump(),
        }


def _require_each_once(wanted: list[Applied]) -> None:
    seen: dict[str, str] = {}
    for one in wanted:
        reference = one.one.vector.reference
        if reference in seen:
            message = f"{reference} is asked for twice, by {seen[reference]} and {one.param}; give one strength"
            raise InvalidSteering(message, param=one.param)
        seen[reference] = one.param


def unknown_dimension(name: str, live: Live) -> UnknownName:
    return unknown_name("dimension", name, live.bank.champions)


def vector_info(registered: RegisteredVector, live: Live) -> dict[str, Any]:
    """A registered vector with its lineage, as the API tells it."""
    tags, loaded = registered.tags, live.loaded.get(f"{registered.name}/{registered.version}")
    try:
        calibration = registered.calibration
    except CorruptFile:
        calibration = None
    return {
        "name": registered.name,
        "version": registered.version,
        "dimension": registered.dimension,
        "run_id": registered.run_id,
        "model_id": registered.model_id,
        "checkpoint": registered.checkpoint_uri,
        "step": registered.checkpoint_step,
        "layer": registered.layer,
        "method": tags.get("method", ""),
        "n_train": int(tags.get("n_train", "0")),
        "statements_digest": tags.get("statements_digest", ""),
        "statements_source": tags.get("statements_source", ""),
        "weights_digest": tags.get("weights_digest", ""),
        "code_commit": tags.get("code_commit", ""),
        "aliases": list(registered.aliases),
        "live": loaded is not None,
        "experiment_id": None if loaded is None else loaded.experiment_id,
        "calibration": None if calibration is None else asdict(calibration),
    }
