"""Paper figures: their size, their letters, and which titles they keep."""

import re

import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from pipelines.figures.paper import COLUMN, LETTERS, PAGE, save_for_paper, set_for_paper


def drawn(width, panels=1):
    figure = Figure(figsize=(width, 4.0), layout="constrained")
    for number, axes in enumerate(figure.subplots(1, panels, squeeze=False).flat):
        axes.plot([1, 2], [3, 4], label="curve")
        axes.set_title(f"panel {number}", loc="left", fontsize=10)
        axes.set_xlabel("step", fontsize=6)
    figure.suptitle("tiny")
    return figure


@pytest.mark.parametrize(("width", "expected"), [(6.4, COLUMN), (7.0, COLUMN), (11.0, PAGE)])
def test_a_figure_is_as_wide_as_a_column(width, expected):
    figure = drawn(width)
    set_for_paper(figure)
    assert figure.get_size_inches() == pytest.approx([expected, max(4.0 * expected / width, expected / 2)])
    figure.draw_without_rendering()
    sizes = {text.get_fontsize() for text in figure.findobj(Text) if text.get_text()}
    assert sizes == {LETTERS, 6}


def test_a_title_goes_and_the_names_of_panels_stay():
    alone, several = drawn(6.4), drawn(11.0, panels=3)
    set_for_paper(alone)
    set_for_paper(several)
    assert [axes.get_title(loc="left") for axes in alone.axes] == [""]
    assert [axes.get_title(loc="left") for axes in several.axes] == ["panel 0", "panel 1", "panel 2"]
    assert several.get_suptitle() == alone.get_suptitle() == ""


def test_long_labels_are_broken_and_numbers_stay_with_their_n():
    figure = drawn(6.4)
    (axes,) = figure.axes
    axes.set_xlabel("change of the share of untrustworthy answers, 95 % interval in points (n = 120)", fontsize=10)
    axes.set_ylabel("accuracy")
    set_for_paper(figure)
    figure.draw_without_rendering()
    extent = axes.xaxis.label.get_window_extent()
    assert 0 <= extent.x0 < extent.x1 <= figure.bbox.width
    assert "n\u00a0=\u00a0120" in axes.get_xlabel() and axes.get_xlabel().count("\n") >= 1
    assert axes.get_ylabel() == "accuracy"


@pytest.mark.draws
def test_pdf_has_its_fonts_and_svg_its_size(tmp_path):
    save_for_paper(drawn(6.4), tmp_path, "curve")
    pdf, svg = (tmp_path / "curve.pdf").read_bytes(), (tmp_path / "curve.svg").read_text()
    assert pdf.startswith(b"%PDF") and b"/FontFile2" in pdf and b"/Type3" not in pdf
    points = float(re.search(r'<svg[^>]*? width="([\d.]+)pt"', svg).group(1))
    assert points == pytest.approx(COLUMN * 72, abs=0.5)
