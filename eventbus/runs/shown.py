"""What notebooks are shown of runs: a table as HTML, and one chart of several by its name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from eventbus.errors import ConfigError
from eventbus.viz.chart import Chart


def chosen(charts: Mapping[str, Chart], name: str) -> Chart:
    """The chart of that name. Raises ConfigError, which says which there are."""
    if name not in charts:
        raise ConfigError(f"there is no figure {name!r} of this; there are {', '.join(charts) or 'none'}")
    return charts[name]


def html_table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """For a notebook: all of it escaped."""

    def cells(tag: str, row: Sequence[str]) -> str:
        return "".join(f"<{tag} style='text-align:left'>{escape(cell)}</{tag}>" for cell in row)

    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return f"<b>{escape(title)}</b><table><thead><tr>{cells('th', head)}</tr></thead><tbody>{body}</tbody></table>"
