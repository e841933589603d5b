"""Pictures of a page: figures of runs as smaller PNG files, so that a page of many of them can be mailed."""

import io

from PIL import Image

COLOURS = 128
"""A figure has few colours; beyond these a colour bar shows no steps either."""
WIDEST = 1000
"""Pixels; what the column of a page has."""


def smaller_png(png: bytes) -> bytes:
    """``png`` in fewer colours and no wider than ``WIDEST``; as it was where that is smaller."""
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    picture.thumbnail((WIDEST, 4 * WIDEST))
    written = io.BytesIO()
    # The median cut, which is the default, mixes the colours of thin lines with others.
    picture.quantize(COLOURS, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(written, "PNG", optimize=True)
    return min(png, written.getvalue(), key=len)
