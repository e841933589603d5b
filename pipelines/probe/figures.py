"""Figures of a probing sweep: where (layer) and when (pre-training step) a dimension can be read."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pipelines.estimators.estimate import Estimate
from pipelines.figures.style import ACCENT, CHANCE, CONTROL, FAINT, FLOOR
from pipelines.probe.controls import Floors
from pipelines.probe.result import UnitResult
from pipelines.probe.selection import SelectedProbe


def heat_map(results: Sequence[UnitResult], floors: Floors) -> Figure:
    """Held-out accuracy by layer and checkpoint; the colour scale starts at chance."""
    layers = [score.layer for score in results[0].pooled]
    values = np.array([[result.score(layer).accuracy.value for result in results] for layer in layers])
    figure = Figure(figsize=(1.8 + 0.62 * len(results), 1.6 + 0.24 * len(layers)), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(values, origin="lower", aspect="auto", cmap="viridis", vmin=0.5, vmax=max(0.75, values.max()))
    axes.set_xticks(range(len(results)), [_tick(result) for result in results], rotation=45, ha="right")
    shown = range(0, len(layers), max(1, len(layers) // 10))
    axes.set_yticks(list(shown), [str(layers[row]) for row in shown])
    axes.set_xlabel("pre-training step")
    axes.set_ylabel("layer")
    axes.set_title(_title(results[0]), loc="left", fontsize=10)
    bar = figure.colorbar(image, ax=axes, label=f"accuracy (n = {results[0].pooled[0].accuracy.n})")
    bar.ax.axhline(floors.ngram[None].value, color=FLOOR, linewidth=2)
    bar.ax.annotate(
        "n-gram floor",
        (0, floors.ngram[None].value),
        xytext=(2, 2),
        textcoords="offset points",
        fontsize=6,
        color="white",
    )
    return figure


def curve(selected: Sequence[SelectedProbe], floors: Floors, random_init: SelectedProbe) -> Figure:
    """Accuracy of the choice of a layer over pre-training, with its interval and every control."""
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.subplots()
    results, positions = [probe.result for probe in selected], np.arange(len(selected))
    accuracies = [probe.accuracy for probe in selected]
    if len(selected) > 1:
        low, high = [accuracy.low for accuracy in accuracies], [accuracy.high for accuracy in accuracies]
        axes.fill_between(positions, low, high, color=ACCENT, alpha=0.2, linewidth=0)
    _errorbars(axes, positions, accuracies)
    shuffled = [probe.result.score(probe.layer).shuffled.value for probe in selected]
    axes.plot(positions, shuffled, color=FAINT, label="shuffled labels")
    control = random_init.accuracy
    axes.plot(_wide(positions), [control.value] * 2, "--", color=CONTROL, label="random initialisation")
    axes.fill_between(_wide(positions), control.low, control.high, color=CONTROL, alpha=0.12, linewidth=0)
    for estimate, colour, name in (
        (floors.ngram[None], FLOOR, f"n-gram floor ({floors.ngram_kind})"),
        (floors.surface[None], "#c9a227", "surface floor"),
    ):
        axes.axhline(estimate.value, color=colour, linewidth=1, label=name)
        axes.fill_between(_wide(positions), estimate.low, estimate.high, color=colour, alpha=0.12, linewidth=0)
    axes.axhline(CHANCE, color=FAINT, linewidth=1, linestyle=":", label="chance")
    axes.set_xticks(positions, [_tick(result) for result in results], rotation=45, ha="right")
    axes.set_xlabel("pre-training step")
    axes.set_ylabel(f"held-out accuracy, 95 % interval (n = {accuracies[0].n})")
    axes.set_title(f"{_title(results[0])}, deep layer chosen in nested folds", loc="left", fontsize=10)
    axes.legend(fontsize=7, frameon=False, ncols=2)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def profile(result: UnitResult, floors: Floors, random_init: UnitResult) -> Figure:
    """Accuracy by layer at one checkpoint, beside the random initialisation layer by layer."""
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.subplots()
    layers = np.array([score.layer for score in result.pooled])
    for source, colour, name in (
        (result, ACCENT, result.checkpoint.label),
        (random_init, CONTROL, "random initialisation"),
    ):
        estimates = [score.accuracy for score in source.pooled]
        axes.plot(layers, [estimate.value for estimate in estimates], "o-", color=colour, markersize=3, label=name)
        axes.fill_between(
            layers,
            [estimate.low for estimate in estimates],
            [estimate.high for estimate in estimates],
            color=colour,
            alpha=0.2,
            linewidth=0,
        )
    axes.plot(layers, [score.shuffled.value for score in result.pooled], color=FAINT, label="shuffled labels")
    axes.axhline(floors.ngram[None].value, color=FLOOR, linewidth=1, label=f"n-gram floor ({floors.ngram_kind})")
    axes.axhline(floors.surface[None].value, color="#c9a227", linewidth=1, label="surface floor")
    axes.axhline(CHANCE, color=FAINT, linewidth=1, linestyle=":", label="chance")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("layer")
    axes.set_ylabel(f"held-out accuracy, 95 % interval (n = {result.pooled[0].accuracy.n})")
    axes.set_title(f"{_title(result)}, {result.checkpoint.label}", loc="left", fontsize=10)
    axes.legend(fontsize=7, frameon=False, ncols=2)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _errorbars(axes: Axes, positions: np.ndarray, estimates: Sequence[Estimate]) -> None:
    values = np.array([estimate.value for estimate in estimates])
    below = values - [estimate.low for estimate in estimates]
    above = [estimate.high for estimate in estimates] - values
    axes.errorbar(
        positions,
        values,
        yerr=(below.clip(0), above.clip(0)),
        fmt="o-",
        color=ACCENT,
        markersize=4,
        capsize=2,
        label="linear probe",
    )


def _wide(positions: np.ndarray) -> list[float]:
    return [positions[0] - 0.3, positions[-1] + 0.3]


def _tick(result: UnitResult) -> str:
    return "init" if result.checkpoint.is_random_init else f"{result.checkpoint.step:,}"


def _title(result: UnitResult) -> str:
    return f"{result.checkpoint.model}: {result.dimension} ({result.statements_source})"
