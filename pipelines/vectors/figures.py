"""Figure of vectors by different methods, beside controls: how well each separates held-out statements."""

import pandas as pd

from pipelines.figures.style import ACCENT, CONTROL, FAINT, Figure


def method_chart(table: pd.DataFrame, dimension: str) -> Figure:
    """AUROC of held-out projections with its interval, a row of ``vectors.csv`` a line."""
    rows = table[table["dimension"] == dimension].iloc[::-1]
    figure = Figure(figsize=(6.4, 1.2 + 0.25 * len(rows)), layout="constrained")
    axes = figure.subplots()
    for place, row in enumerate(rows.itertuples()):
        colour = CONTROL if row.method in ("random", "shuffled") else ACCENT
        spread = [[row.auroc - row.auroc_low], [row.auroc_high - row.auroc]]
        axes.errorbar([row.auroc], [place], xerr=spread, fmt="o", color=colour, capsize=3, markersize=4)
    axes.axvline(0.5, color=FAINT, linewidth=1)
    axes.set_yticks(
        range(len(rows)), [f"{row.method}, step {row.step}, layer {row.layer}" for row in rows.itertuples()]
    )
    axes.set_xlim(-0.02, 1.02)
    n = int(rows["n_test"].max())
    axes.set_xlabel(f"AUROC of projections of held-out statements, 95 % interval (n = {n}); 0.5 is chance")
    axes.set_title(f"{rows['model'].iloc[0]}: {dimension}", loc="left", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    return figure
