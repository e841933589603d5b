"""HTML as values: whatever is not markup already is escaped, and a page needs nothing beside itself."""

import base64
from collections.abc import Iterable, Sequence
from html import escape

import pandas as pd

OPEN_ROWS = 30
"""Longer tables are folded."""
SHOWN_ROWS = 2000

STYLE = """
:root { color-scheme: light dark; --ink: #1c1c1c; --quiet: #666; --line: #ddd; --paper: #fff; --accent: #1b5e8c; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e6e6; --quiet: #a0a0a0; --line: #3a3a3a; --paper: #161616; --accent: #7ab8e0; }
  img { background: #fff; }
}
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 0 auto;
  max-width: 62rem; padding: 2rem 1rem 5rem; }
h1 { font-size: 1.7rem; } h2 { margin-top: 3rem; border-top: 1px solid var(--line); padding-top: 1.2rem; }
h1, h2, h3 { line-height: 1.25; font-weight: 600; } a { color: var(--accent); }
p.quiet, figcaption, summary { color: var(--quiet); } figcaption { font-size: .88rem; max-width: 42rem; }
figure { margin: 1.5rem 0; } img { max-width: 100%; height: auto; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .25rem .7rem .25rem 0; border-bottom: 1px solid var(--line); white-space: nowrap; }
td.number { text-align: right; } code { font-size: .9em; overflow-wrap: anywhere; }
"""


class Html(str):
    """Text that is markup already."""

    __slots__ = ()


def text(content: object) -> Html:
    return content if isinstance(content, Html) else Html(escape(str(content)))


def element(tag: str, *children: object, **attributes: str) -> Html:
    """``element("p", "a < b", class_="quiet")``; children and attributes are escaped."""
    given = "".join(f' {name.rstrip("_")}="{escape(value)}"' for name, value in attributes.items())
    return Html(f"<{tag}{given}>{''.join(text(child) for child in children)}</{tag}>")


def joined(parts: Iterable[Html]) -> Html:
    return Html("\n".join(parts))


def page(title: str, body: Sequence[Html]) -> str:
    """A whole document. Its policy forbids loading anything, so that it is the same wherever it is opened."""
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    head = (
        f'<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}"><title>{escape(title)}</title>'
        f"<style>{STYLE}</style>"
    )
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n{joined(body)}\n</body></html>\n'


def picture(png: bytes, caption: object) -> Html:
    source = f"data:image/png;base64,{base64.b64encode(png).decode()}"
    return element("figure", Html(f'<img src="{source}" alt="{escape(str(caption))}">'), element("figcaption", caption))


def table(name: str, content: pd.DataFrame) -> Html:
    """The rows with four significant digits; folded where there are many, cut where there are very many."""
    shown = content.head(SHOWN_ROWS)
    head = element("tr", *(element("th", column) for column in shown.columns))
    body = joined(element("tr", *map(_cell, row)) for row in shown.itertuples(index=False))
    cut = f", the first {SHOWN_ROWS} here" if len(content) > SHOWN_ROWS else ""
    whole = element("div", element("table", element("thead", head), element("tbody", body)), class_="scroll")
    if len(content) <= OPEN_ROWS:
        return whole
    return element("details", element("summary", f"{name}: {len(content)} rows{cut}"), whole)


def pairs(content: Iterable[tuple[str, object]]) -> Html:
    """Names and values, as of a configuration."""
    rows = (element("tr", element("th", name), element("td", element("code", value))) for name, value in content)
    return element("div", element("table", element("tbody", joined(rows))), class_="scroll")


def _cell(value: object) -> Html:
    if isinstance(value, bool):
        return element("td", "yes" if value else "no")
    if isinstance(value, float):
        return element("td", "" if value != value else f"{value:.4g}", class_="number")
    return element("td", value, class_="number") if isinstance(value, int) else element("td", value)
