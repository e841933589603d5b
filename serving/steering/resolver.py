"""From what a request says about steering to a plan on the live bank, and what is told about it afterwards."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, get_args

from registry.errors import CorruptFile, InvalidInput, Mismatch, UnknownName, unknown_name
from registry.records import CHAMPION, RegisteredVector
from serving.api.errors import InvalidSteering, NotServing, VectorMismatch, VectorNotFound
from serving.api.steering.block import ByDimension, Condition, Steering, SteeringChoice, VectorChoice
from serving.engine.base import Finished, Operation
from serving.steering.bank import SteeringPlan, VectorTarget, plan
from serving.steering.catalog import Live, Loaded, RegistryHealth
from serving.steering.limits import Applied, Limits, bounded, bounded_together


@dataclass(frozen=True)
class Resolved:
    """A request's steering: its plan, and what the reply says of it."""

    plan: SteeringPlan
    applied: tuple[dict[str, Any], ...]
    rows: tuple[int, ...]
    """Of the bank, one for each of what is applied."""
    warnings: tuple[str, ...]

    def told(self, ended: Sequence[Finished]) -> dict[str, Any]:
        """The reply's ``steering``, with how many tokens of each phase were steered in these answers."""
        moves = {move.row for move in self.plan.moves}
        applied = [
            {**one, "tokens_steered": _moved(row, ended)} if row in moves else one
            for row, one in zip(self.rows, self.applied, strict=True)
        ]
        steered = {
            "prompt": sum(one.steered_prompt for one in ended),
            "generation": sum(one.steered_generation for one in ended),
        }
        found = {"applied": applied, "fingerprint": self.plan.fingerprint, "tokens_steered": steered}
        return {**found, "warnings": list(self.warnings)} if self.warnings else found


def _moved(row: int, ended: Sequence[Finished]) -> dict[str, int]:
    """Tokens that one move did move."""
    counts = [one.moved.get(row, (0, 0)) for one in ended]
    return {"prompt": sum(prompt for prompt, _ in counts), "generation": sum(answer for _, answer in counts)}


@dataclass(frozen=True)
class Resolver:
    """Everything that the steering of one request is resolved against."""

    live: Live
    health: RegistryHealth
    limits: Limits
    defaults: Mapping[str, Any]
    """As ``PUT /v1/steering/default`` takes it."""
    operations: frozenset[Operation] = frozenset(get_args(Operation))
    """What the engine can do."""

    def resolve(self, choice: SteeringChoice, param: str = "steering") -> Resolved:
        """Raises ``InvalidSteering``, ``VectorNotFound``, ``VectorMismatch``, ``DoseExceeded`` or ``NotServing``."""
        spec = Steering(vectors=[]) if choice is None or choice == "off" else choice
        defaults = ByDimension() if choice == "off" else ByDimension.model_validate(self.defaults)
        warnings: list[str] = []
        wanted = [*self._by_dimension(spec, defaults, param), *self._by_reference(spec.vectors, param)]
        _require_each_once(wanted)
        used = [bounded(one, self.limits, spec.on_exceed, warnings) for one in wanted]
        used = bounded_together(used, self.limits, self._plan, spec.on_exceed, warnings)
        acting = [one for one in used if one.move().reach]
        rows = tuple(self._row(one) for one in acting)
        return Resolved(self._plan(acting), tuple(map(self._told, acting)), rows, tuple(warnings))

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

    def _by_dimension(self, spec: ByDimension, defaults: ByDimension, param: str) -> Iterator[Applied]:
        """What the request says of dimensions, and what it inherits for the others."""
        own = spec.strengths.keys() | spec.targets.keys()
        inherited = ByDimension(
            strengths={name: value for name, value in defaults.strengths.items() if name not in own},
            targets={name: value for name, value in defaults.targets.items() if name not in own},
            bound=spec.bound or defaults.bound,
            when=spec.when or defaults.when,
        )
        every = (inherited, spec)
        for name in spec.strengths.keys() & spec.targets.keys():
            message = f"{name} has both a strength and a target; give one of them"
            raise InvalidSteering(message, param=f"{param}.targets.{name}")
        if spec.bound is not None and not any(one.targets for one in every):
            raise InvalidSteering("bound is of targets, and there is none; give targets", param=f"{param}.bound")
        if spec.when is not None and not any(one.strengths or one.targets for one in every):
            message = "when is of strengths and targets, and there are none; give some, or say when of each vector"
            raise InvalidSteering(message, param=f"{param}.when")
        for one in every:
            for dimension, strength in one.strengths.items():
                place = f"{param}.strengths.{dimension}"
                found = self.champion(dimension, place)
                yield Applied(found, strength, strength, place, below=self._below(found, one.when, f"{param}.when"))
            for dimension, target in one.targets.items():
                place = f"{param}.targets.{dimension}"
                self._require_able("project", place)
                found = self.champion(dimension, place)
                below = self._below(found, one.when, f"{param}.when")
                yield Applied(found, target, target, place, below=below, bound=one.bound or "exactly")

    def _by_reference(self, choices: list[VectorChoice], param: str) -> Iterator[Applied]:
        for index, choice in enumerate(choices):
            place = f"{param}.vectors.{index}"
            one = self._referenced(choice.ref.removeprefix("models:/"), f"{place}.ref")
            own = [one.vector.layer]
            if choice.layers is not None and choice.layers != own:
                message = f"{one.vector.reference} was fitted at layer {own[0]} and is asked for at {choice.layers}"
                raise InvalidSteering(f"{message}; leave layers out", param=f"{place}.layers")
            name, amount = _amount(choice, place)
            if choice.op == "project":
                self._require_able("project", f"{place}.op")
            below = self._below(one, choice.when, f"{place}.when")
            bound = (choice.bound or "exactly") if choice.op == "project" else None
            yield Applied(one, amount, amount, f"{place}.{name}", choice.apply, below, bound)

    def _below(self, one: Loaded, when: Condition | None, param: str) -> float | None:
        """The threshold of a condition, once it is certain that it can be asked."""
        if when is None:
            return None
        self._require_able("when", param)
        try:
            one.vector.usable_probe()
        except InvalidInput as error:
            raise InvalidSteering(str(error), param=param) from error
        return when.probe_below

    def _require_able(self, operation: Operation, param: str) -> None:
        if operation not in self.operations:
            able = ", ".join(sorted(self.operations))
            raise InvalidSteering(f"the engine of this service cannot do {operation}; it can do {able}", param=param)

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

    def _row(self, one: Applied) -> int:
        return list(self.live.loaded).index(one.one.vector.reference)

    def _plan(self, used: Sequence[Applied]) -> SteeringPlan:
        return plan(self.live.bank, [one.move(self._row(one)) for one in used])

    def _told(self, used: Applied) -> dict[str, Any]:
        registered, probe = used.one.registered, used.one.probe
        found = {
            "dimension": registered.dimension,
            "vector": registered.name,
            "version": registered.version,
            "run_id": registered.run_id,
            "checkpoint": registered.checkpoint_uri.removeprefix("models:/"),
            "step": registered.checkpoint_step,
            "layers": [registered.layer],
            "op": "add" if used.bound is None else "project",
            used.name: used.amount,
        }
        if used.amount != used.requested:
            found["requested"] = used.requested
        move = used.move()
        if isinstance(move, VectorTarget):
            found |= {"bound": move.bound, "limit": [round(one, 6) for one in move.moves]}
        if used.below is not None and probe is not None:
            found["when"] = {"probe_below": used.below, "probe_layer": probe.layer}
        return {**found, "relative_dose": round(used.dose(self.limits), 6), "apply": used.apply.model_dump()}


def _amount(choice: VectorChoice, place: str) -> tuple[str, float]:
    """The field that the operation goes by, and its value. Raises ``InvalidSteering`` for fields of the other one."""
    adds = choice.op == "add"
    foreign = {"target": choice.target, "bound": choice.bound} if adds else {"strength": choice.strength}
    for field, value in foreign.items():
        if value is not None:
            other = "project" if adds else "add"
            raise InvalidSteering(f"{field} is of op {other}, and op is {choice.op}", param=f"{place}.{field}")
    name, amount = ("strength", choice.strength) if adds else ("target", choice.target)
    if amount is None:
        raise InvalidSteering(f"op {choice.op} needs a {name}, in standard deviations", param=f"{place}.{name}")
    return name, amount


def _require_each_once(wanted: list[Applied]) -> None:
    seen: dict[str, str] = {}
    for one in wanted:
        reference = one.one.vector.reference
        if reference in seen:
            message = f"{reference} is asked for twice, by {seen[reference]} and {one.param}; name it once"
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
