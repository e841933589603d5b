"""Fitting: which words of a figure reach beyond its edge, or lie on each other."""

from matplotlib.axis import Axis
from matplotlib.text import Text


def shown_texts(figure) -> list[Text]:
    """What is written in a figure; ticks outside of what an axis shows are not."""
    texts = [text for text in (figure._suptitle, figure._supxlabel, figure._supylabel) if text is not None]
    texts += [text for legend in figure.legends for text in legend.get_texts()]
    for axes in figure.axes:
        if axes.get_visible():
            texts += [axes.title, axes._left_title, axes._right_title, *axes.texts, axes.xaxis.label, axes.yaxis.label]
            texts += [label for axis in (axes.xaxis, axes.yaxis) for label in _ticks(axis)]
    return [text for text in texts if text.get_visible() and text.get_text().strip()]


def _ticks(axis: Axis) -> list[Text]:
    low, high = sorted(axis.get_view_interval())
    return [tick.label1 for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]


def cut_texts(figure) -> list[str]:
    """Texts of which some part lies outside of the figure."""
    figure.draw_without_rendering()
    page = figure.bbox.padded(1)
    extents = [(text.get_text(), text.get_window_extent()) for text in shown_texts(figure)]
    return [text for text, box in extents if not (page.contains(box.x0, box.y0) and page.contains(box.x1, box.y1))]


def overlapping_titles(figure) -> list[str]:
    """Titles of panels that lie on each other or on the heading."""
    figure.draw_without_rendering()
    titles = [axes._left_title for axes in figure.axes] + [figure._suptitle]
    drawn = [text for text in titles if text is not None and text.get_text()]
    boxes = [text.get_window_extent() for text in drawn]
    return [
        text.get_text()
        for place, text in enumerate(drawn)
        if any(boxes[place].overlaps(other) for other in boxes[place + 1 :])
    ]
