"""What the information experiment found, as two printed tables: phases of I(T;X), and when a dimension is readable."""

from collections.abc import Sequence

from pipelines.estimators.phases import TwoPhases
from pipelines.information.result import FIXED, OWN, PAPER
from pipelines.information.tables import inside_warmup
from pipelines.information.trajectory import Course

X = {OWN: "same", FIXED: "last", PAPER: "paper"}


def summary(courses: Sequence[Course], warmup_steps: int | None) -> str:
    """Both tables, each with what it is of and what its columns mean."""
    return "\n".join(["", *_phases(courses, warmup_steps), "", *_dynamics(courses)])


def _phases(courses: Sequence[Course], warmup_steps: int | None) -> list[str]:
    first = courses[0]
    checkpoints = f"{len(first.trained)} checkpoints of {first.initial.checkpoint.model}"
    if not first.phases:
        return [f"phases are not looked for in {checkpoints}: at least 4 are needed"]
    known = "unknown, give warmup_steps" if warmup_steps is None else f"{warmup_steps:,} steps"
    lines = [
        f"Phases of nHSIC(T; X), {checkpoints}, layers above that of X together; X is that of the same or the last",
        "checkpoint; p by permuted order of steps; at σ: at how many bandwidths; ρ: correlation with effective rank;",
        f"warm-up of the learning rate: {known}",
        f"{'dimension':<12} {'X':<5} {'peak [95 %]':<20} {'layers':>6}  {'fall [95 %]':<24} {'p':>6}  "
        f"{'two phases':<10} {'at σ':<4} {'in warm-up':<10} {'ρ':>5}",
    ]
    for course in courses:
        for estimator in course.initial.points[0].xt:
            phase = course.phase(estimator)
            if phase is not None:
                inside = inside_warmup(phase.found, warmup_steps) if phase.found.compresses else "-"
                lines.append(
                    f"{course.dimension:<12} {X[estimator]:<5} {_phase(phase.found)}  "
                    f"{_yes(phase.found.compresses):<10} {_bandwidths(course, estimator):<4} {inside:<10} "
                    f"{phase.rank_correlation:>5.2f}"
                )
    return lines


def _phase(found: TwoPhases) -> str:
    peak = f"{found.peak_step:,} [{found.peak_low:,}, {found.peak_high:,}]"
    fall, margin = f"{found.fall:.3f}", 1.96 * found.fall_error
    if margin == margin:
        fall += f" [{found.fall - margin:.3f}, {found.fall + margin:.3f}]"
    agreeing = f"{found.layers_agreeing}/{found.layers}"
    return f"{peak:<20} {agreeing:>6}  {fall:<24} {found.p_value:>6.3f}"


def _bandwidths(course: Course, estimator: str) -> str:
    """At how many of the bandwidths tried there are two phases; the fixed X is measured at one."""
    if estimator == FIXED or len(course.bandwidths) < 2:
        return ""
    return f"{sum(one.found.compresses for one in course.bandwidths)}/{len(course.bandwidths)}"


def _dynamics(courses: Sequence[Course]) -> list[str]:
    lines = [
        f"Bits that a linear probe tells of the label at layer {courses[0].layer}, held out; onset: first step above",
        "random initialisation; beyond: the same of what an n-gram model lacks; 95 %: that share of the rise is done",
        f"{'dimension':<12} {'n':>6} {'onset':>6} {'beyond':>6} {'95 %':>6}  {'bits at the last step':<23} "
        f"{'beyond n-grams':<23} {'nHSIC(T; Y)':>11} {'its null':>8}",
    ]
    for course in courses:
        when, last = course.layer_dynamics(course.layer), course.trained[-1].point(course.layer)
        lines.append(
            f"{course.dimension:<12} {last.bits.n:>6,} {_step(when.onset):>6} {_step(when.onset_beyond_ngrams):>6} "
            f"{_step(when.rise_95):>6}  {last.bits!s:<23} {last.conditional_bits!s:<23} {last.ty.nhsic:>11.3f} "
            f"{last.ty.null:>8.3f}"
        )
    return lines


def _yes(answer: bool) -> str:
    return "yes" if answer else "no"


def _step(step: int | None) -> str:
    return "never" if step is None else f"{step:,}"
