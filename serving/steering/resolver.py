"""Steering resolver: a request's steering made into a plan on the live bank, within the limits of its vectors."""

import shlex
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import get_args

from registry.dimensions import DIMENSIONS
from registry.embedded import model_argument
from registry.errors import InvalidInput, UnknownName, unknown_name
from registry.layers import place_text
from registry.records import CHALLENGER, CHAMPION
from serving.steering.bank import ServedVector
from serving.steering.catalog import RegistryHealth, ServedVectors
from serving.steering.errors import (
    InvalidSteering,
    SteeringError,
    SteeringNotReady,
    VectorNotServed,
    VectorRefused,
)
from serving.steering.limits import Limits, clamp_layer_sums, clamp_to_joint_limit, clamp_to_range
from serving.steering.monitor import Monitor
from serving.steering.plan import Add, Intervention, Operation, ProbeCondition, Project, SteeringPlan, TokenScope
from serving.steering.request import DimensionSteering, SteeringRequest, VectorSteering
from serving.steering.resolution import AppliedVector, SteeringResolution


@dataclass(frozen=True)
class SteeringResolver:
    """Everything that the steering of one request is resolved against."""

    served: ServedVectors
    health: RegistryHealth
    limits: Limits
    default: DimensionSteering = field(default_factory=DimensionSteering)
    """What requests inherit in dimensions that they do not name."""
    operations: frozenset[Operation] = frozenset(get_args(Operation))
    """What the engine can do."""

    def resolve(self, request: SteeringRequest, param: str = "steering") -> SteeringResolution:
        """Raises ``InvalidSteering``, ``VectorNotServed``, ``VectorRefused``, ``StrengthOutOfRange`` or
        ``SteeringNotReady``; ``param`` is the field that the request came in.
        """
        requested = dict(self._requested(request, param))
        _require_each_once(requested)
        warnings: list[str] = []
        within = {
            place: clamp_to_range(intervention, self.limits, request.on_exceed, place, warnings)
            for place, intervention in requested.items()
        }
        within = clamp_to_joint_limit(within, request.on_exceed, warnings)
        within = clamp_layer_sums(within, self.limits, request.on_exceed, warnings)
        applied = tuple(
            AppliedVector(intervention, requested[place].amount, self.limits.relative_norm_of(intervention))
            for place, intervention in within.items()
            if intervention.max_shift
        )
        interventions = tuple(vector.intervention for vector in applied)
        try:
            plan = SteeringPlan(self.served.bank, interventions)
        except InvalidInput as error:
            raise InvalidSteering(str(error), param=param) from error
        monitor = self.monitor(request, param)
        warnings += _steered_below(monitor, plan)
        return SteeringResolution(plan, applied, tuple(warnings), monitor)

    def resolve_variant(
        self, request: SteeringRequest, param: str = "steering", *, is_challenged: bool = False
    ) -> SteeringResolution:
        """As ``resolve``, by challengers where the request is drawn for them and they can do what it asks.

        Answers of both variants are read by the champions' probes, so that their readings can be compared.
        """
        challengers = self.served.challengers
        resolution = self.resolve(request, param)
        if is_challenged and challengers:
            with suppress(SteeringError):
                resolution = replace(self, served=self.served.challenged).resolve(request, param)
        named = {(dimension, reference): CHALLENGER for dimension, reference in challengers.items()}
        named |= {(name, self.served.bank.champions[name]): CHAMPION for name in challengers}
        by_dimension = {*request.dimensions.names, *(self.default.names if request.inherits else ())}
        variants = {
            vector.dimension: named[vector.dimension, vector.intervention.vector.reference]
            for vector in resolution.applied
            if vector.dimension in by_dimension and (vector.dimension, vector.intervention.vector.reference) in named
        }
        applied = tuple(
            replace(vector, is_challenger=variants.get(vector.dimension) == CHALLENGER) for vector in resolution.applied
        )
        return replace(resolution, applied=applied, monitor=self.monitor(request, param), variants=variants)

    def champion(self, dimension: str, param: str) -> ServedVector:
        """The vector that steers a dimension by name."""
        champion = self.served.bank.champion(dimension)
        if champion is not None:
            return champion
        self._require_registry()
        refused = self.served.refused.get(dimension)
        if refused is not None:
            raise VectorRefused(f"{dimension} cannot be steered: {refused}", param=param) from refused
        if not self.served.bank.champions:
            model = self.served.bank.model.name
            raise InvalidSteering(
                f"no vectors of {model} are registered; make some with {_calibrate(model)}", param=param
            )
        raise InvalidSteering(str(unknown_dimension(dimension, self.served)), param=param)

    def _require_registry(self) -> None:
        if not self.health.reached:
            problem = self.health.problem or "the registry is being read"
            raise SteeringNotReady(f"steering is not possible yet: {problem}")

    def _requested(self, request: SteeringRequest, param: str) -> Iterator[tuple[str, Intervention]]:
        """Every intervention that the request asks for or inherits, by the field that asks for it."""
        default = self.default if request.inherits else DimensionSteering()
        given = request.dimensions
        inherited = replace(
            default.without(given.names),
            bound=given.bound or default.bound,
            condition=given.condition or default.condition,
            scope=given.scope or default.scope,
        )
        for name in given.strengths.keys() & given.targets.keys():
            message = f"{name} has both a strength and a target; give one of them"
            raise InvalidSteering(message, param=f"{param}.targets.{name}")
        if given.bound is not None and not (inherited.targets or given.targets):
            raise InvalidSteering(
                "`bound` applies to `targets`, but this request has none: add `targets` or remove `bound`",
                param=f"{param}.bound",
            )
        if given.condition is not None and not (inherited.names or given.names):
            raise InvalidSteering(
                "`when` applies to `strengths` and `targets`, but this request has none: add one",
                param=f"{param}.when",
                in_block=", or put `when` into each entry of `vectors`",
            )
        if given.scope is not None and not (inherited.names or given.names):
            raise InvalidSteering(
                "`apply` applies to `strengths` and `targets`, but this request has none: add one",
                param=f"{param}.apply",
                in_block=", or put `apply` into each entry of `vectors`",
            )
        for steering in (inherited, given):
            yield from self._of_dimensions(steering, param)
        for index, choice in enumerate(request.vectors):
            yield self._of_vector(choice, f"{param}.vectors.{index}")

    def _of_dimensions(self, steering: DimensionSteering, param: str) -> Iterator[tuple[str, Intervention]]:
        scope = steering.scope or TokenScope()
        for dimension, strength in steering.strengths.items():
            place = f"{param}.strengths.{dimension}"
            vector = self.champion(dimension, place)
            # A dimension that is set to 0 needs no probe to be left alone.
            condition = self._usable(steering.condition, vector, scope, f"{param}.when") if strength else None
            yield place, Add(vector, strength, scope, condition)
        for dimension, target in steering.targets.items():
            place = f"{param}.targets.{dimension}"
            self._require_able("project", place)
            vector = self.champion(dimension, place)
            condition = self._usable(steering.condition, vector, scope, f"{param}.when")
            yield place, Project(vector, target, steering.bound or "exactly", scope=scope, condition=condition)

    def _of_vector(self, choice: VectorSteering, place: str) -> tuple[str, Intervention]:
        vector = self._referenced(choice.reference.removeprefix("models:/"), f"{place}.ref")
        if choice.layers not in (None, vector.layers):
            raise InvalidSteering(
                f"{vector.reference} was fitted at {place_text(vector.layers)} and `layers` is "
                f"{list(choice.layers or ())}; leave `layers` out",
                param=f"{place}.layers",
            )
        name, amount = _amount(choice, place)
        if choice.operation == "project":
            self._require_able("project", f"{place}.op")
        condition = self._usable(choice.condition, vector, choice.scope, f"{place}.when")
        if choice.operation == "add":
            return f"{place}.{name}", Add(vector, amount, choice.scope, condition)
        bound = choice.bound or "exactly"
        return f"{place}.{name}", Project(vector, amount, bound, scope=choice.scope, condition=condition)

    def _usable(
        self, condition: ProbeCondition | None, vector: ServedVector, scope: TokenScope, param: str
    ) -> ProbeCondition | None:
        """The condition, once it is certain that the engine and the vector's probe can be asked."""
        if condition is None:
            return None
        self._require_able("when", param)
        try:
            probe = vector.require_probe()
        except InvalidInput as error:
            raise InvalidSteering(str(error), param=param) from error
        if probe.reads_answers and scope.prompt == "all":
            raise InvalidSteering(
                f"the probe of {vector.reference} reads answers and not their prompts, and `apply` steers all of the "
                "prompt: leave `when` out, or give `apply` the prompt `last` or `none`",
                param=param,
            )
        return condition

    def monitor(self, request: SteeringRequest, param: str) -> Monitor | None:
        """The champions' probes that read the answer, if the request names any."""
        place = f"{param}.monitor"
        if not request.monitor:
            if request.stop is not None:
                message = "`stop_when` reads the probes of `monitor`, which is empty: name a dimension there"
                raise InvalidSteering(message, param=place)
            return None
        self._require_able("monitor", place)
        vectors = tuple(self.champion(dimension, place) for dimension in dict.fromkeys(request.monitor))
        try:
            return Monitor(vectors, request.stop)
        except InvalidInput as error:
            raise InvalidSteering(str(error), param=place) from error

    def _require_able(self, operation: Operation, param: str) -> None:
        if operation not in self.operations:
            able = ", ".join(sorted(self.operations))
            raise InvalidSteering(
                f"the engine of this service cannot do {operation}; it can do {able}: leave {operation} out, or serve "
                "with TRUSTTRACE_ENGINE=slots",
                param=param,
            )

    def _referenced(self, reference: str, param: str) -> ServedVector:
        name, _, alias = reference.partition("@")
        bank = self.served.bank
        champions = {vector.registered.name: vector for vector in map(bank.champion, bank.champions) if vector}
        vector = champions.get(name) if alias == CHAMPION else bank.find(reference)
        if vector is None:
            self._require_registry()
            live = ", ".join(vector.reference for vector in bank.vectors) or "none"
            message = f"{reference} is not live; live: {live}; POST /v1/steering/vectors loads another"
            raise VectorNotServed(message, param=param)
        return vector


def _steered_below(monitor: Monitor | None, plan: SteeringPlan) -> Iterator[str]:
    """A warning for each probe that reads what was steered at a lower layer than its own."""
    if monitor is None:
        return
    layers = {layer for intervention in plan.interventions for layer in intervention.vector.layers}
    for vector, probe in zip(monitor.vectors, monitor.probes, strict=True):
        below = tuple(sorted(layer for layer in layers if layer < probe.layer))
        if below:
            yield (
                f"the probe of {vector.reference} reads layer {probe.layer}, after what is added at "
                f"{place_text(below)}: its readings are of moved states, and what they are worth was measured without"
            )


def _amount(choice: VectorSteering, place: str) -> tuple[str, float]:
    """The field that the operation goes by, and its value. Raises ``InvalidSteering`` for fields of the other one."""
    adds = choice.operation == "add"
    foreign = {"target": choice.target, "bound": choice.bound} if adds else {"strength": choice.strength}
    for field_name, value in foreign.items():
        if value is not None:
            other = "project" if adds else "add"
            message = f"`{field_name}` belongs to `op` {other}, and `op` is {choice.operation}: remove one of them"
            raise InvalidSteering(message, param=f"{place}.{field_name}")
    name, amount = ("strength", choice.strength) if adds else ("target", choice.target)
    if amount is None:
        message = f"`op` {choice.operation} needs a `{name}`, in standard deviations"
        raise InvalidSteering(message, param=f"{place}.{name}")
    return name, amount


def _require_each_once(requested: dict[str, Intervention]) -> None:
    seen: dict[str, str] = {}
    for param, intervention in requested.items():
        reference = intervention.vector.reference
        if reference in seen:
            message = f"{reference} is asked for twice, by {seen[reference]} and {param}; name it once"
            raise InvalidSteering(message, param=param)
        seen[reference] = param


def unknown_dimension(name: str, served: ServedVectors) -> UnknownName:
    """The error for a dimension without a live vector: one that could have one is no misspelt name."""
    live, model = served.bank.champions, served.bank.model.name
    if name in DIMENSIONS and name not in live:
        return UnknownName(
            f"{model} has no live vector for {name}; live: {', '.join(live)}; make one with {_calibrate(model)} "
            f"-P dimensions={name}"
        )
    return unknown_name("dimension", name, live)


def _calibrate(model: str) -> str:
    return f"mlflow run . --env-manager local -e calibrate -P {shlex.quote(f'model={model_argument(model)}')}"
