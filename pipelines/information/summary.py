"""Summary of the information experiment as printed tables: phases of I(T;X), when a dimension is readable, and
how far its direction stays one."""

import math
from collections.abc import Sequence

from pipelines.cli.columns import name_width
from pipelines.estimators.likeness import CANNOT_BE_TOLD
from pipelines.estimators.onsets import not_shown_to_last, step_text
from pipelines.estimators.phases import TwoPhases
from pipelines.information.result import FIXED, OWN, PAPER
from pipelines.information.tables import inside_warmup
from pipelines.information.trajectory import Trajectory
from pipelines.tracking.conclusion import Conclusion
from registry.counts import counted

X = {OWN: "same", FIXED: "last", PAPER: "paper"}


def summary(trajectories: Sequence[Trajectory], warmup_steps: int | None) -> str:
    """All tables, each with what it is of and what its columns mean."""
    return "\n".join(
        ["", *_phases(trajectories, warmup_steps), "", *_dynamics(trajectories), "", *_directions(trajectories)]
    )


def conclusion(trajectories: Sequence[Trajectory]) -> Conclusion:
    """When each dimension becomes readable, and whether I(T;X) was seen to fall."""
    first = trajectories[0]
    rows, readable, falling = [], [], []
    for trajectory in trajectories:
        when, last = trajectory.layer_dynamics(trajectory.layer), trajectory.trained[-1].point(trajectory.layer)
        phases = [trajectory.phase(estimator) for estimator in first.initial.points[0].xt]
        falls = any(phase is not None and phase.shape.compresses for phase in phases)
        readable += [trajectory.dimension] if when.onset.step is not None else []
        falling += [trajectory.dimension] if falls else []
        onsets = (str(when.onset), str(when.onset_beyond_ngrams))
        bits = f"{last.bits} (n = {last.bits.n:,})"
        rows.append((trajectory.dimension, *onsets, bits, "yes" if falls else "not shown"))
    return Conclusion(
        verdict=(
            f"{len(readable)} of {counted(len(rows), 'dimension')} can be read beyond random initialisation at layer "
            f"{first.layer} of {first.initial.checkpoint.model}; a fall of nHSIC(T; X) is shown for {len(falling)} "
            f"({counted(len(first.trained), 'checkpoint')})."
        ),
        header=(
            "dimension",
            "readable from step",
            "beyond n-grams from",
            "bits at the last step [95 %]",
            "I(T;X) falls",
        ),
        rows=tuple(rows),
    )


def _phases(trajectories: Sequence[Trajectory], warmup_steps: int | None) -> list[str]:
    first = trajectories[0]
    checkpoints = f"{counted(len(first.trained), 'checkpoint')} of {first.initial.checkpoint.model}"
    if not first.phases:
        return [f"phases are not looked for in {checkpoints}: at least 4 are needed"]
    name = name_width(trajectory.dimension for trajectory in trajectories)
    known = "unknown, give warmup_steps" if warmup_steps is None else counted(warmup_steps, "step")
    lines = [
        f"Phases of nHSIC(T; X), {checkpoints}, layers above that of X together; X is that of the same or the last",
        "checkpoint; p of the fall against curves that wander alike, corrected for layers, bandwidths and dimensions;",
        "detectable: the smallest fall found in 80 %; at σ: at how many bandwidths; r: of its changes with those of",
        "effective rank;",
        f"warm-up of the learning rate: {known}",
        f"{'dimension':<{name}} {'X':<5} {'peak [95 %]':<20} {'layers':>6}  {'fall [95 %]':<24} {'detectable':>10} "
        f"{'p':>6}  {'falls':<14} {'at σ':<4} {'in warm-up':<10} {'r [95 %]':<20}",
    ]
    for trajectory in trajectories:
        for estimator in trajectory.initial.points[0].xt:
            phase = trajectory.phase(estimator)
            if phase is not None:
                inside = inside_warmup(phase.shape, warmup_steps) if phase.shape.compresses else "-"
                lines.append(
                    f"{trajectory.dimension:<{name}} {X[estimator]:<5} {phase_cells(phase.shape)}  "
                    f"{_falls(phase.shape):<14} {_bandwidths(trajectory, estimator):<4} {inside:<10} "
                    f"{phase.rank_correlation!s:<20}"
                )
    return lines


def phase_cells(shape: TwoPhases) -> str:
    """Peak, fall, what could be detected and p, with a dash for what cannot be told."""
    peak = f"{shape.peak_step:,} [{shape.peak_low:,}, {shape.peak_high:,}]"
    fall, margin = f"{shape.fall:z.3f}", 1.96 * shape.fall_error
    if margin == margin:
        fall += f" [{shape.fall - margin:z.3f}, {shape.fall + margin:z.3f}]"
    agreeing = f"{shape.layers_agreeing}/{shape.layers}"
    detectable = f"{shape.detectable_fall:.3g}" if math.isfinite(shape.detectable_fall) else "-"
    p = f"{shape.p_adjusted:.3f}" if shape.can_be_told else "-"
    return f"{peak:<20} {agreeing:>6}  {fall:<24} {detectable:>10} {p:>6}"


def _falls(shape: TwoPhases) -> str:
    """A fall that is not shown is not thereby excluded."""
    if not shape.can_be_told:
        return "cannot be told"
    return "yes" if shape.compresses else "not shown"


def _bandwidths(trajectory: Trajectory, estimator: str) -> str:
    """At how many of the bandwidths tried there are two phases; the fixed X is measured at one."""
    if estimator == FIXED or len(trajectory.bandwidths) < 2:
        return ""
    return f"{sum(phase.shape.compresses for phase in trajectory.bandwidths)}/{len(trajectory.bandwidths)}"


def _dynamics(trajectories: Sequence[Trajectory]) -> list[str]:
    name = name_width(trajectory.dimension for trajectory in trajectories)
    layer = trajectories[0].layer
    whens = [trajectory.layer_dynamics(layer) for trajectory in trajectories]
    width = max(6, *(len(str(onset)) for when in whens for onset in (when.onset, when.onset_beyond_ngrams)))
    lines = [
        f"Bits that a linear probe tells of the label at layer {layer}, held out; onset: first step",
        "above random initialisation, at 5 % over steps and layers; beyond: the same of what an n-gram model lacks;",
        "lost: from where they are surely fewer again; 95 %: that share of the rise is done",
        f"{'dimension':<{name}} {'n':>6} {'onset':>{width}} {'beyond':>{width}} {'95 %':>6}  "
        f"{'bits at the last step':<23} {'beyond n-grams':<23} {'nHSIC(T; Y)':>11} {'its null':>8}",
    ]
    onsets = []
    for trajectory, when in zip(trajectories, whens, strict=True):
        last = trajectory.trained[-1].point(layer)
        lines.append(
            f"{trajectory.dimension:<{name}} {last.bits.n:>6,} {when.onset!s:>{width}} "
            f"{when.onset_beyond_ngrams!s:>{width}} {step_text(when.rise_95):>6}  {last.bits!s:<23} "
            f"{last.conditional_bits!s:<23} {last.ty.nhsic:>z11.3f} {last.ty.null:>8.3f}"
        )
        onsets.append((f"{trajectory.dimension} (onset)", when.onset))
        onsets.append((f"{trajectory.dimension} (beyond)", when.onset_beyond_ngrams))
    return lines + not_shown_to_last(onsets)


def _directions(trajectories: Sequence[Trajectory]) -> list[str]:
    name = name_width(trajectory.dimension for trajectory in trajectories)
    lines = [
        f"Direction of the last checkpoint at layer {trajectories[0].layer} beside those of the others; reliability:",
        "its cosine with itself fitted on other statements (split halves, stepped up); another: how many others differ",
        "from it by more than directions so reliable may, and at which steps",
        f"{'dimension':<{name}} {'reliability':>11} {'another':>7} {'not shown':>9} {'cannot be told':>14}  at steps",
    ]
    for trajectory in trajectories:
        transfer, last = trajectory.transfer, len(trajectory.trained) - 1
        verdicts = [pair.verdict for pair in transfer.likeness[last][:last]]
        steps = [f"{step:,}" for step, verdict in zip(trajectory.steps, verdicts, strict=False) if verdict == "yes"]
        counts = [verdicts.count(verdict) for verdict in ("yes", "not shown", CANNOT_BE_TOLD)]
        lines.append(
            f"{trajectory.dimension:<{name}} {transfer.reliability[last]:>11.3f} {counts[0]:>7} {counts[1]:>9} "
            f"{counts[2]:>14}  {', '.join(steps) or 'none'}"
        )
    return lines
