"""Calibrations in MLflow: the effect of each vector, the version that carries it, and whether it becomes champion."""

from dataclasses import replace

from pipelines.calibrate.candidates import Candidate
from pipelines.calibrate.effects import Effect
from pipelines.calibrate.joint import JointEffect
from pipelines.calibrate.search import Calibrated
from pipelines.calibrate.tables import verdict_of_version
from pipelines.probe.result import UnitResult
from pipelines.probe.tracking import register_direction
from pipelines.statements.labelled import LabelledStatements
from pipelines.tracking.links import run_path
from pipelines.tracking.runs import Point, Run, log_points
from pipelines.vectors.answer_probes import FittedProbe
from pipelines.vectors.tracking import register_fitted
from registry.calibration import PERPLEXITY_CAP, Calibration, HeldOutEffect
from registry.checkpoint_store import CheckpointStore
from registry.errors import InvalidInput
from registry.layers import place_text
from registry.records import joint_limit_tags
from registry.store import RegisteredVector, VectorStore

STAYS = "champion still, since no other vector was found to work"
"""Of one that has the alias from a probe or from an earlier calibration: a service goes on to serve it."""


class CalibrationLog:
    """The calibrations of one run, logged and registered."""

    def __init__(self, run: Run) -> None:
        self._run_id = run.info.run_id
        self._page = run_path(run.info.experiment_id, run.info.run_id)
        self._checkpoints = CheckpointStore()
        self._vectors = VectorStore()

    def add(
        self,
        result: Calibrated,
        statements: LabelledStatements,
        unit: UnitResult | None,
        probe: FittedProbe | None = None,
    ) -> tuple[Calibrated, RegisteredVector, str]:
        """The result, its vector, registered and calibrated, and why it is champion or is not.

        ``unit`` is the unit that a direction was fitted in; a registered vector needs none. ``probe`` is that of the
        answers which it was read on.
        """
        log_points(self._run_id, _points(statements.dimension, result))
        registered = result.candidate.registered or self._register(result.candidate, unit, probe)
        result = replace(result, is_refuted=registered.is_refuted_at(result.recommended))
        calibration, reason = to_calibration(result, statements.digest, self._run_id), decision(result)
        calibrated = self._vectors.calibrate(
            registered, calibration, summary=verdict_of_version(result, reason), run_page=self._page
        )
        if result.is_promoted:
            self._vectors.promote(calibrated, reason=reason)
        return result, calibrated, reason

    def limit(self, joint: JointEffect) -> None:
        """The joint limit, on every champion that was measured together."""
        limit = joint.to_limit(self._run_id)
        log_points(
            self._run_id, [("joint/scale", limit.scale, 0), ("joint/perplexity_ratio", limit.perplexity_ratio, 0)]
        )
        for member in joint.members:
            self._vectors.annotate(member.registered, joint_limit_tags(limit))

    def _register(self, candidate: Candidate, unit: UnitResult | None, probe: FittedProbe | None) -> RegisteredVector:
        if unit is None:
            raise InvalidInput(f"the {candidate.label} direction has no unit that it was fitted in")
        checkpoint = self._checkpoints.register(unit.checkpoint, unit.weights_digest)
        if candidate.fitted is None:
            return register_direction(self._vectors, unit, candidate.layers[0], checkpoint, self._run_id)
        where = self._vectors, unit, candidate.fitted, checkpoint, self._run_id
        return register_fitted(*where, answer_probe=probe)


def to_calibration(result: Calibrated, statements_digest: str, run_id: str) -> Calibration:
    return Calibration(
        low=result.low,
        high=result.high,
        recommended=result.recommended,
        perplexity_cap=PERPLEXITY_CAP,
        points=tuple(effect.to_point() for effect in result.curve if effect.is_measured),
        behaviour=result.tested.behaviour,
        n=result.curve[0].shift.n,
        statements_digest=statements_digest,
        run_id=run_id,
        tested=held_out_effect(result),
    )


def held_out_effect(result: Calibrated) -> HeldOutEffect:
    tested = result.tested
    return HeldOutEffect(
        works=result.works,
        strength=tested.strength,
        measure=tested.measure,
        shift=tested.shift.value,
        shift_low=tested.shift.low,
        shift_high=tested.shift.high,
        n=tested.shift.n,
        largest_random=result.largest_random,
        perplexity_ratio=tested.perplexity.value,
        unsteered=tested.unsteered,
        **(tested.form.as_fields() if tested.form else {}),
    )


def decision(result: Calibrated) -> str:
    """Why the chosen vector becomes champion, or does not."""
    where, tested = f"{result.candidate.label} at {place_text(result.layers)}", result.tested
    if result.is_promoted:
        chosen = next(effect for effect in result.curve if effect.strength == result.chosen)
        return (
            f"calibrated: on validation, {where}, strength {chosen.strength:g}, {chosen.describe()} at "
            f"{chosen.perplexity} times the perplexity"
        )
    if result.works and result.is_refuted:
        return (
            f"not champion: {where} works on this test half, but an evaluation showed that at strength "
            f"{result.recommended:g} what is written does not improve; calibrate by what is written: by=text"
        )
    if result.works and result.champion is not None:
        running = result.champion
        return (
            f"not champion: on the same test half the running champion ({running.label}, strength "
            f"{running.strength:g}) {running.describe()} and {where} by {tested.shift}"
        )
    if not result.chosen:
        reason = f"no strength moved {tested.measure} beyond chance at little cost{_in_form(tested)} on validation"
    elif not tested.is_cheap:
        reason = f"perplexity on test is {tested.perplexity} times the unsteered"
    elif not tested.keeps_form and tested.form is not None:
        reason = f"its answers on test may have another form: {tested.form.describe()}"
    elif tested.shift.low <= 0:
        reason = f"the shift of {tested.measure} on test, {tested.shift}, may be none"
    else:
        reason = (
            f"the interval of its shift of {tested.measure} on test, {tested.shift}, does not lie above that of a "
            f"random direction, {result.largest_random:z.3f}"
        )
    role = STAYS if result.candidate.is_champion else "not champion"
    return f"{role}, and no strength is recommended: {where} did best on validation, but {reason}"


def _in_form(effect: Effect) -> str:
    return " in answers of the same form" if effect.behaviour else ""


def _points(dimension: str, result: Calibrated) -> list[Point]:
    values = {
        "layer": float(result.layers[0]),
        "n_layers": float(len(result.layers)),
        "safe_low": result.low,
        "safe_high": result.high,
        "recommended_strength": result.recommended,
        "works": float(result.works),
        "shift": result.tested.shift.value,
        "shift_low": result.tested.shift.low,
        "shift_high": result.tested.shift.high,
        "perplexity_ratio": result.tested.perplexity.value,
        "perplexity_low": result.tested.perplexity.low,
        "perplexity_high": result.tested.perplexity.high,
        "largest_random_shift": result.largest_random,
    }
    return [(f"{dimension}/{name}", value, 0) for name, value in values.items()]
