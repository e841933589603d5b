"""Steering resolution: what a request's steering has become, and what its answer says of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from registry.records import CHALLENGER
from registry.vectors import Template
from serving.steering.limits import amount_name
from serving.steering.monitor import Monitor
from serving.steering.plan import Add, Intervention, Project, SteeringPlan

_FORMS = {"none": "to plain text", "chat": "in the chat template"}
_PROMPTS = {"none": "plain text", "chat": "a chat"}


@dataclass(frozen=True)
class AppliedVector:
    """One vector that steers an answer: what was asked of it, and what is done."""

    intervention: Intervention
    requested: float
    """The strength or target that the request named; differs from what is done where it was clamped."""
    relative_norm: float
    """Length of the longest offset, as a share of the median length of the layer's hidden states; of several layers the
    largest share."""
    is_challenger: bool = False
    """Whether it stands in its champion's place."""

    @property
    def dimension(self) -> str:
        return self.intervention.vector.dimension

    def to_dict(self) -> dict[str, Any]:
        """As answers, logs and traces have it."""
        intervention, vector = self.intervention, self.intervention.vector
        registered, condition = vector.registered, intervention.condition
        applied = {
            "dimension": registered.dimension,
            "vector": registered.name,
            "version": registered.version,
            "run_id": registered.run_id,
            "checkpoint": registered.checkpoint_uri.removeprefix("models:/"),
            "step": registered.checkpoint_step,
            "layers": list(registered.layers),
            "op": "add" if isinstance(intervention, Add) else "project",
            amount_name(intervention): intervention.amount,
        }
        if self.is_challenger:
            applied["alias"] = CHALLENGER
        if intervention.amount != self.requested:
            applied["requested"] = self.requested
        if isinstance(intervention, Project):
            applied |= {"bound": intervention.bound, "limit": [round(shift, 6) for shift in intervention.shifts]}
        if condition is not None:
            probe_layer = vector.require_probe().layer
            applied["when"] = {"probe_below": condition.probe_below, "probe_layer": probe_layer}
        scope = {"prompt": intervention.scope.prompt, "generation": intervention.scope.generation}
        return {**applied, "relative_dose": round(self.relative_norm, 6), "apply": scope}


@dataclass(frozen=True)
class SteeringResolution:
    """A request's steering: its plan, what the answer says of it, and the probes that read the answer."""

    plan: SteeringPlan
    applied: tuple[AppliedVector, ...] = ()
    warnings: tuple[str, ...] = ()
    monitor: Monitor | None = None
    variants: Mapping[str, str] = field(default_factory=dict)
    """Of dimensions that have a challenger: whether it or the champion steers, by their aliases."""

    def after(self, template: Template) -> "SteeringResolution":
        """With a warning for each vector of answers that were read in another form than this prompt has."""
        read = (
            (applied.intervention.vector, applied.intervention.vector.vector.lineage.template)
            for applied in self.applied
        )
        others = tuple(
            f"{vector.reference} was read on answers {_FORMS[form]}, and this prompt is {_PROMPTS[template]}: what "
            "it does here was not measured"
            for vector, form in read
            if form in _FORMS and form != template
        )
        monitored = () if self.monitor is None else zip(self.monitor.vectors, self.monitor.probes, strict=True)
        unmeasured = tuple(
            f"the probe of {vector.reference} was fitted on answers {_FORMS[probe.lineage.template]}, and this prompt "
            f"is {_PROMPTS[template]}: what its readings are worth here was not measured"
            for vector, probe in monitored
            if probe.reads_answers and probe.lineage.template not in ("", template)
        )
        return replace(self, warnings=(*self.warnings, *others, *unmeasured))

    @property
    def monitored_dimensions(self) -> tuple[str, ...]:
        return () if self.monitor is None else self.monitor.dimensions
