"""Style: the colours that all figures share."""

from matplotlib.figure import Figure as Figure

CHANCE = 0.5
ACCENT, FLOOR, CONTROL, FAINT = "#1b5e8c", "#b3471d", "#6b6b6b", "#b8b8b8"
