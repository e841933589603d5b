"""Figure of a calibration: preference and perplexity by strength."""

from matplotlib.axes import Axes

from pipelines.calibrate.search import Calibrated
from pipelines.figures.style import ACCENT, CONTROL, FAINT, FLOOR, Figure, legend_below, set_title
from registry.calibration import PERPLEXITY_CAP
from registry.layers import place_text


def calibration_curve(title: str, result: Calibrated) -> Figure:
    """Preference shift (above) and perplexity (below) by strength; the safe range is shaded."""
    figure = Figure(figsize=(6.4, 5.2), layout="constrained")
    above, below = figure.subplots(2, sharex=True)
    _shifts(above, result)
    set_title(above, f"{title}, {result.candidate.label}, {place_text(result.layers)}")
    _perplexities(below, result)
    for axes in (above, below):
        axes.axvspan(result.low, result.high, color=ACCENT, alpha=0.12, linewidth=0, label="safe range")
        axes.spines[["top", "right"]].set_visible(False)
    legend_below(figure, columns=2)
    return figure


def _shifts(axes: Axes, result: Calibrated) -> None:
    strengths, shifts = [effect.strength for effect in result.curve], [effect.shift for effect in result.curve]
    low, high = [shift.low for shift in shifts], [shift.high for shift in shifts]
    axes.plot(strengths, [shift.value for shift in shifts], "o-", color=ACCENT, markersize=3, label="validation")
    axes.fill_between(strengths, low, high, color=ACCENT, alpha=0.2, linewidth=0)
    tested = result.tested
    spread = [[tested.shift.value - tested.shift.low], [tested.shift.high - tested.shift.value]]
    label = f"test (n = {tested.shift.n:,})"
    axes.errorbar([tested.strength], [tested.shift.value], yerr=spread, fmt="D", color=FLOOR, capsize=3, label=label)
    random = [effect.shift.value for effect in result.random]
    axes.plot([tested.strength] * len(random), random, "x", color=CONTROL, label="random directions, test")
    axes.axhline(0, color=FAINT, linewidth=1)
    unit = "fall of the share" if result.tested.behaviour else "shift, nats"
    axes.set_ylabel(f"{result.tested.measure}: {unit}\n95 % interval (n = {shifts[0].n:,})")


def _perplexities(axes: Axes, result: Calibrated) -> None:
    strengths, ratios = [effect.strength for effect in result.curve], [effect.perplexity for effect in result.curve]
    axes.plot(strengths, [ratio.value for ratio in ratios], "o-", color=ACCENT, markersize=3)
    low, high = [ratio.low for ratio in ratios], [ratio.high for ratio in ratios]
    axes.fill_between(strengths, low, high, color=ACCENT, alpha=0.2, linewidth=0)
    axes.axhline(PERPLEXITY_CAP, color=FLOOR, linewidth=1, label=f"cap, {PERPLEXITY_CAP} times the unsteered")
    axes.set_yscale("log")
    for formatter in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
        formatter("{x:g}")
    axes.set_ylabel(f"perplexity / unsteered\n95 % interval (n = {ratios[0].n:,})")
    axes.set_xlabel("strength, standard deviations (positive is more trustworthy)")
