"""Draws docs/ack-states.svg from the transition table: python -m docs.draw_states.

The places of the six states are chosen by hand, everything else comes from eventbus.ack.state.TRANSITIONS.
"""

from __future__ import annotations

import math
from pathlib import Path

from eventbus.ack.state import SETTLED, TRANSITIONS, AckState

TARGET = Path(__file__).with_name("ack-states.svg")
_PLACES = {
    AckState.QUEUED: (90, 340),
    AckState.IN_FLIGHT: (300, 200),
    AckState.WAITING: (300, 60),
    AckState.ACKED: (620, 60),
    AckState.UNKNOWN: (620, 200),
    AckState.REJECTED: (620, 340),
}
_COLOURS = {AckState.ACKED: "#0072B2", AckState.UNKNOWN: "#D55E00", AckState.REJECTED: "#CC79A7"}
_WIDTH, _HEIGHT = 120, 40


def svg() -> str:
    """The whole picture, as text."""
    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 720 400" font-family="sans-serif" font-size="13">',
        '<title>The states of a pending ack</title><rect width="720" height="400" fill="#ffffff"/>',
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
        '<path d="M0,0 L8,4 L0,8 z" fill="#555555"/></marker></defs>',
    ]
    for state, exits in TRANSITIONS.items():
        for event, target in exits.items():
            parts.append(_arrow(state, target, event.name.lower().replace("_", " ")))
    for state, (x, y) in _PLACES.items():
        colour = _COLOURS.get(state, "#555555")
        ring = 3 if state in SETTLED else 1.5
        parts.append(
            f'<rect x="{x - _WIDTH / 2:g}" y="{y - _HEIGHT / 2:g}" width="{_WIDTH}" height="{_HEIGHT}" rx="8" '
            f'fill="#ffffff" stroke="{colour}" stroke-width="{ring:g}"/>'
            f'<text x="{x}" y="{y + 5}" text-anchor="middle" font-weight="bold" fill="{colour}">{state.name}</text>'
        )
    return "\n".join([*parts, "</svg>"]) + "\n"


def _arrow(source: AckState, target: AckState, label: str) -> str:
    """A line from box to box, drawn before the boxes; a pair of opposite arrows stands apart."""
    (x1, y1), (x2, y2) = _PLACES[source], _PLACES[target]
    if source in TRANSITIONS[target].values():
        apart = 14 if y2 > y1 else -14
        x1, x2 = x1 + apart, x2 + apart
    tip_x, tip_y = _edge(x2, y2, x1, y1)
    label_x, label_y = x1 + (tip_x - x1) * 0.46, y1 + (tip_y - y1) * 0.46
    return (
        f'<line x1="{x1}" y1="{y1}" x2="{tip_x:.0f}" y2="{tip_y:.0f}" stroke="#555555" marker-end="url(#tip)"/>'
        f'<text x="{label_x:.0f}" y="{label_y + 4:.0f}" text-anchor="middle" fill="#333333" stroke="#ffffff" '
        f'stroke-width="5" paint-order="stroke">{label}</text>'
    )


def _edge(x: float, y: float, towards_x: float, towards_y: float) -> tuple[float, float]:
    """Where a line from outside meets the box around (x, y)."""
    dx, dy = towards_x - x, towards_y - y
    scale = min(_WIDTH / 2 / abs(dx) if dx else math.inf, _HEIGHT / 2 / abs(dy) if dy else math.inf)
    return x + dx * scale, y + dy * scale


if __name__ == "__main__":
    TARGET.write_text(svg())
