"""Paper figures: without a title, as wide as a column or a page, in small letters and with embedded fonts."""

import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from pipelines.figures.style import Figure as Screen
from pipelines.figures.style import broken

COLUMN, PAGE = 3.35, 6.9
"""Inches: 85 mm and 175 mm, as most journals set one and two columns."""
WIDE = 7.0
"""A figure drawn wider than this takes two columns."""
LETTERS = 7.0
"""Points; the most that a letter has."""
PLACES: tuple[Literal["left", "center", "right"], ...] = ("left", "center", "right")
"""Of a title."""


def save_for_paper(figure: Figure, directory: Path, name: str) -> None:
    """``name.pdf`` and ``name.svg``; the figure is changed by it."""
    set_for_paper(figure)
    with rc_context({"pdf.fonttype": 42}):  # TrueType, which publishers ask for
        for kind in ("pdf", "svg"):
            figure.savefig(directory / f"{name}.{kind}")


def set_for_paper(figure: Figure) -> None:
    """Leave out the title, since a caption says it; the titles of several panels name them, and stay."""
    figure.suptitle("")
    titled = [axes for axes in figure.axes if any(axes.get_title(loc=place) for place in PLACES)]
    if len(titled) == 1:
        for place in PLACES:
            titled[0].set_title("", loc=place)
    width, height = figure.get_size_inches()
    column = PAGE if width > WIDE else COLUMN
    scaled, legend = max(height * column / width, column / 2), _legend_height(figure) * column / width
    figure.set_size_inches(column, scaled)
    for axes in figure.axes:  # whose ticks, and so their labels, are made anew for the size
        for axis in (axes.xaxis, axes.yaxis):
            sizes = [label.get_fontsize() for label in axis.get_ticklabels()]
            axis.set_tick_params(labelsize=min((LETTERS, *sizes)))
    for text in figure.findobj(Text):
        text.set_fontsize(min(text.get_fontsize(), LETTERS))
    if isinstance(figure, Screen):
        figure.refit_legend()
        # In a column a legend has more rows, which would be taken from the data.
        figure.set_size_inches(column, scaled + max(0.0, _legend_height(figure) - legend))
    _wrap_labels(figure)
    if len(titled) > 1:
        _wrap_titles(titled)


def _legend_height(figure: Figure) -> float:
    """Inches of the legends under all panels."""
    return sum(float(legend.get_window_extent().height) for legend in figure.legends) / figure.dpi


def _wrap_labels(figure: Figure) -> None:
    """Break what names an axis where it is longer than its room: a column is narrower than a screen."""
    figure.draw_without_rendering()
    for axes in figure.axes:
        x, y = axes.xaxis.label, axes.yaxis.label
        drawn = axes.get_window_extent()
        centre = (drawn.x0 + drawn.x1) / 2
        _wrap(x, x.get_window_extent().width / (2 * min(centre, figure.bbox.width - centre)))
        _wrap(y, y.get_window_extent().height / drawn.height)


def _wrap_titles(panels: Sequence[Axes]) -> None:
    """Break what names a panel where it would reach into the next one."""
    for axes in panels:
        room = axes.get_window_extent().width
        for place in PLACES:
            title = axes.set_title(axes.get_title(loc=place), loc=place, fontsize=LETTERS)
            _wrap(title, title.get_window_extent().width / room)


def _wrap(label: Text, share: float) -> None:
    """``share`` is that of the room which the longest line takes."""
    if share > 1:
        lines = label.get_text().replace("n = ", "n\u00a0=\u00a0").split("\n")
        most = int(0.95 * max(map(len, lines)) / share)
        label.set_text("\n".join(part for line in lines for part in _parts(line, most)))


def _parts(line: str, most: int) -> Iterator[str]:
    """``line`` broken at spaces, and a longer word after its underscores."""
    for part in textwrap.wrap(line, most, break_long_words=False, break_on_hyphens=False):
        yield from broken(part, most).split("\n")
