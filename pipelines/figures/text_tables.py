"""Text tables: the rows of a result in Markdown, for pages, and in LaTeX, for papers."""

from collections.abc import Sequence

Row = Sequence[str]

_ESCAPED = str.maketrans(
    {**{sign: f"\\{sign}" for sign in "&%$#_{}"}, "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\^{}"}
)


def markdown_table(header: Row, rows: Sequence[Row]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)


def latex_table(header: Row, rows: Sequence[Row]) -> str:
    """A ``tabular`` with the rules of booktabs."""
    head, *body = [" & ".join(cell.translate(_ESCAPED) for cell in row) + r" \\" for row in (header, *rows)]
    opening = rf"\begin{{tabular}}{{{'l' * len(header)}}}"
    return "\n".join([opening, r"\toprule", head, r"\midrule", *body, r"\bottomrule", r"\end{tabular}", ""])
