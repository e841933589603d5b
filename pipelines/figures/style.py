"""Style: the colours that all figures share, and fonts for the names of dimensions in any script."""

from matplotlib import font_manager, rcParams
from matplotlib.figure import Figure as Figure

CHANCE = 0.5
ACCENT, FLOOR, CONTROL, FAINT = "#1b5e8c", "#b3471d", "#6b6b6b", "#b8b8b8"
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
