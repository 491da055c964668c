"""Tables of a report, as HTML."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

MAX_ROWS = 200
"""Rows of a table of events, alerts or failures; a sentence tells of the others."""


def table_of(title: str, head: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> str:
    """Cells are HTML: whoever makes them escapes."""
    if not rows:
        return ""

    def cells(tag: str, row: Sequence[str]) -> str:
        return "".join(f"<{tag}{' class=r' if at in right else ''}>{cell}</{tag}>" for at, cell in enumerate(row))

    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows[:MAX_ROWS])
    more = f"<p class=sub>… and {len(rows) - MAX_ROWS:,} more</p>" if len(rows) > MAX_ROWS else ""
    return (
        f"<section><h2>{title}</h2><div class=wide tabindex=0 role=region aria-label='{escape(title)}'>"
        f"<table><thead><tr>{cells('th', head)}</tr></thead>"
        f"<tbody>{body}</tbody></table></div>{more}</section>"
    )


def pairs_of(title: str, pairs: Sequence[tuple[str, str]]) -> str:
    """Names with their values, side by side; both are escaped here. Empty where there are none."""
    cells = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in pairs)
    return f"<section><h2>{title}</h2><dl class=pairs>{cells}</dl></section>" if pairs else ""
