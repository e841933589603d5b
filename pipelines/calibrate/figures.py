"""The figure of a calibration: what strength does to preference and to perplexity."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipelines.calibrate.search import Calibrated
from pipelines.figures.style import ACCENT, CONTROL, FAINT, FLOOR
from registry.calibration import PERPLEXITY_CAP


def calibration_curve(title: str, found: Calibrated) -> Figure:
    """Preference shift (above) and perplexity (below) by strength; the safe range is shaded."""
    figure = Figure(figsize=(6.4, 5.2), layout="constrained")
    above, below = figure.subplots(2, sharex=True)
    strengths = [one.strength for one in found.curve]
    above.plot(
        strengths, [one.shift.value for one in found.curve], "o-", color=ACCENT, markersize=3, label="validation"
    )
    above.fill_between(
        strengths,
        [one.shift.low for one in found.curve],
        [one.shift.high for one in found.curve],
        color=ACCENT,
        alpha=0.2,
        linewidth=0,
    )
    _test_points(above, found)
    above.axhline(0, color=FAINT, linewidth=1)
    above.set_ylabel(f"preference shift, nats\n95 % interval (n = {found.curve[0].shift.n})")
    above.set_title(f"{title}, {found.candidate.label}, layer {found.layer}", loc="left", fontsize=10)
    ratios = [one.perplexity for one in found.curve]
    below.plot(strengths, [one.value for one in ratios], "o-", color=ACCENT, markersize=3)
    below.fill_between(
        strengths, [one.low for one in ratios], [one.high for one in ratios], color=ACCENT, alpha=0.2, linewidth=0
    )
    below.axhline(PERPLEXITY_CAP, color=FLOOR, linewidth=1, label=f"cap, {PERPLEXITY_CAP} times the unsteered")
    below.set_yscale("log")
    for formatter in (below.yaxis.set_major_formatter, below.yaxis.set_minor_formatter):
        formatter("{x:g}")
    below.set_ylabel("perplexity / unsteered")
    below.set_xlabel("strength, standard deviations (positive is more trustworthy)")
    for axes in (above, below):
        axes.axvspan(found.low, found.high, color=ACCENT, alpha=0.06, linewidth=0, label="safe range")
        axes.legend(fontsize=7, frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def _test_points(axes: Axes, found: Calibrated) -> None:
    tested = found.tested
    spread = [[tested.shift.value - tested.shift.low], [tested.shift.high - tested.shift.value]]
    label = f"test (n = {tested.shift.n})"
    axes.errorbar([tested.strength], [tested.shift.value], yerr=spread, fmt="D", color=FLOOR, capsize=3, label=label)
    random = [one.shift.value for one in found.random]
    axes.plot([tested.strength] * len(random), random, "x", color=CONTROL, label="random directions, test")
