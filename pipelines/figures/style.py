"""Style: colours, resolution and the axis of pre-training that all figures share, and fonts for any script."""

import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float
from matplotlib import font_manager, rcParams
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure as _Figure
from matplotlib.ticker import NullLocator
from PIL import Image

from pipelines.figures.training_axis import TrainingAxis

CHANCE = 0.5
ACCENT, FLOOR, CONTROL, FAINT = "#1b5e8c", "#b3471d", "#6b6b6b", "#b8b8b8"
GOLD = "#c9a227"
"""Told apart from the others by people with any common colour blindness, and in print by lightness."""
MARGIN = 0.03
"""Of the width of an axis of training, left free on either side."""
MOST_TICKS = 10
MARKED = 30
"""Checkpoints, beyond which a line has neither markers nor bars: they would run into one."""
LEGEND = 7.0
"""Points."""
REPEATED = "weights of an earlier checkpoint"
Places = Sequence[float] | Float[np.ndarray, " checkpoints"]
WIDEST = 12.0
"""Inches; a heat map of more checkpoints has narrower columns."""
NARROWEST = 5.0
"""Inches; a heat map of one checkpoint has a wider column, and room for its title."""
_EAST_ASIAN = (
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "WenQuanYi Zen Hei",
    "PingFang SC",
    "Hiragino Sans",
    "Microsoft YaHei",
    "Malgun Gothic",
)
"""matplotlib's own font has no such letters; of these, those that a machine has are fallen back to."""

rcParams["font.family"] = ["DejaVu Sans", *(name for name in _EAST_ASIAN if name in font_manager.get_font_names())]
rcParams["savefig.dpi"] = 200


class Figure(_Figure):
    """A figure that a notebook shows where it is the value of a cell, without pyplot and its global state."""

    def _repr_png_(self) -> bytes:
        written = io.BytesIO()
        self.savefig(written, format="png", dpi=100)
        return written.getvalue()

    def save_small(self, path: Path, widest: int) -> None:
        """Write a picture of at most ``widest`` pixels across, from one twice as wide: whole it takes up to 20 MiB."""
        # Half a pixel more, since the width of a canvas is cut to whole ones.
        dots = (2 * widest + 0.5) / float(self.get_size_inches()[0])
        self.savefig(path, dpi=min(float(rcParams["savefig.dpi"]), dots))
        with Image.open(path) as drawn:
            drawn.thumbnail((widest, 4 * widest))
            drawn.convert("RGB").save(path, optimize=True)

    def name_below(self, named: Mapping[str, Artist], columns: int) -> None:
        """A legend under all panels, in at most ``columns`` and in as many as the figure has room for."""
        self._named = (named, columns)
        for legend in list(self.legends):
            legend.remove()
        handles, labels = list(named.values()), list(named)
        for count in range(columns, 0, -1):
            legend = self.legend(
                handles, labels, ncols=count, loc="outside lower center", fontsize=LEGEND, frameon=False
            )
            if count == 1 or legend.get_window_extent().width <= self.bbox.width:
                return
            legend.remove()

    def refit_legend(self) -> None:
        """Place the legend anew after the figure has another width."""
        if self._named is not None:
            self.name_below(*self._named)

    _named: tuple[Mapping[str, Artist], int] | None = None


def legend_below(figure: Figure, *, columns: int, short: bool = False) -> None:
    """One legend for all panels under them, where it covers no data; what several panels name stands once.

    ``short`` names go without what stands in brackets, which may differ between panels.
    """
    named: dict[str, Artist] = {}
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            named.setdefault(label.partition(" (")[0] if short else label, handle)
    figure.name_below(named, columns)


def legend_beside(axes: Axes) -> None:
    """The legend of one of several rows on its right, where it covers no data."""
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=LEGEND, frameon=False)


def spread(count: int, most: int = MOST_TICKS) -> list[int]:
    """At most ``most`` positions of ``count``, equally far apart but for the last one, which is always among them."""
    apart = max(1, -(-(count - 1) // (most - 1)))
    regular = range(0, count, apart)
    return [*(position for position in regular if 2 * (count - 1 - position) >= apart), count - 1]


def set_title(axes: Axes, text: str, *, size: float = 10) -> None:
    """A title on the left, broken where the figure ends: a model's name may be long."""
    axes.set_title(text, loc="left", fontsize=size, wrap=True)


def width(columns: int, each: float, margin: float, *, least: float = NARROWEST) -> float:
    """Inches of a figure whose ``columns`` take ``each``."""
    return min(max(margin + each * columns, least), WIDEST)


def broken(name: str, most: int = 18) -> str:
    """``name`` on lines of about ``most`` letters, broken after underscores: a dimension of one's own may be long."""
    lines = [""]
    for part in re.findall(r"[^_]*_|[^_]+", name):
        if lines[-1] and len(lines[-1] + part) > most:
            lines.append("")
        lines[-1] += part
    return "\n".join(lines)


def set_heading(figure: _Figure, text: str, *, size: float = 10) -> None:
    """A title of several panels, broken where the figure ends."""
    figure.suptitle(text, fontsize=size, x=0.02, ha="left", wrap=True)


def draw_curve(
    axes: Axes,
    places: Places,
    values: Places,
    distinct: Bool[np.ndarray, " checkpoints"],
    *,
    colour: str,
    label: str,
    size: float = 3,
) -> None:
    """A line through checkpoints; one that is not ``distinct`` from an earlier one is hollow, and off the line."""
    x, y = np.asarray(places), np.asarray(values)
    line = "o-" if len(x) <= MARKED else "-"
    axes.plot(x[distinct], y[distinct], line, color=colour, markersize=size, label=label)
    if not distinct.all():
        hollow = f"hollow: {REPEATED}"
        named = hollow in axes.get_legend_handles_labels()[1]
        label = "" if named else hollow
        axes.plot(x[~distinct], y[~distinct], "o", color=colour, markersize=size + 1, fillstyle="none", label=label)


def draw_band(
    axes: Axes,
    places: Places,
    low: Places,
    high: Places,
    distinct: Bool[np.ndarray, " checkpoints"],
    *,
    colour: str,
) -> None:
    """The intervals of the line that ``draw_curve`` draws."""
    x, below, above = (np.asarray(column)[distinct] for column in (places, low, high))
    if len(x) == 1:  # which has no breadth
        axes.vlines(x, below, above, color=colour, alpha=0.4, linewidth=2)
    axes.fill_between(x, below, above, color=colour, alpha=0.2, linewidth=0)


def hatch_repeated(axes: Axes, distinct: Bool[np.ndarray, " checkpoints"]) -> str:
    """Hatch the columns of a heat map that are not ``distinct``; returns what to add to the name of its axis."""
    for column in np.flatnonzero(~distinct):
        axes.axvspan(column - 0.5, column + 0.5, facecolor="none", edgecolor="white", hatch="///", linewidth=0)
    return "" if distinct.all() else f"; hatched: {REPEATED}"


def label_checkpoints(axes: Axes, axis: TrainingAxis, *, size: float = 8, most_ticks: int = MOST_TICKS) -> None:
    """Label an axis on which checkpoints are evenly spaced."""
    shown = spread(len(axis.labels), most_ticks)
    axes.set_xticks(shown, [axis.labels[position] for position in shown], rotation=45, ha="right", fontsize=size)


def draw_training_axis(axes: Axes, axis: TrainingAxis, *, most_ticks: int = MOST_TICKS) -> None:
    """Steps or tokens on a logarithmic axis that holds 0; checkpoints without an order to scale are evenly spaced."""
    axes.set_xlabel(axis.name)
    if not axis.is_ordered:
        label_checkpoints(axes, axis, most_ticks=most_ticks)
        return
    labels = dict(zip(axis.places, axis.labels, strict=True))
    threshold = min((place for place in axis.places if place > 0), default=1)
    axes.set_xscale("symlog", linthresh=threshold, linscale=0.5)
    shown = _apart(axis.places, threshold, most_ticks)
    axes.set_xticks(shown, [labels[place] for place in shown], rotation=45, ha="right", fontsize=8)
    axes.xaxis.set_minor_locator(NullLocator())
    if len(axis.places) > 1:
        scale = axes.xaxis.get_transform()
        first, last = scale.transform(np.array([axis.places[0], axis.places[-1]], np.float64))
        margin = MARGIN * (last - first)
        axes.set_xlim(*scale.inverted().transform(np.array([first - margin, last + margin])))


def _apart(places: Sequence[int], threshold: int, most: int) -> list[int]:
    """Of rising ``places`` those whose labels do not meet, the last one among them."""
    drawn = np.log1p(np.asarray(places, np.float64) / threshold)
    least = (drawn[-1] - drawn[0]) / most
    shown: list[int] = []
    edge = np.inf
    for place, at in sorted(zip(places, drawn, strict=True), reverse=True):
        if edge - at > least:
            shown.append(place)
            edge = at
    return sorted(shown)
