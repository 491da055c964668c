"""How often a page was drawn since it was opened, so that its figures are on screen before its charts are made.

A browser that gets all of a page at once shows nothing until it has made every chart. So the first pass has the
figures, and later ones the rest. The entry (``streamlit_app.py``) begins the count when another page is opened; where
nobody has begun it, as for a page that is drawn alone, every pass is whole.
"""

from __future__ import annotations

import streamlit as st

WHOLE = 2
"""From this pass on there is no difference any more."""
NEXT_S = 0.3
"""Until the second pass, of a page that draws itself again less than once a second."""
_PASSES = "passes"


def begin() -> None:
    """The next pass is the first one."""
    st.session_state[_PASSES] = 0


def done() -> int:
    """How often the page was drawn before, at most WHOLE."""
    return int(st.session_state.get(_PASSES, WHOLE))


def count() -> int:
    """The same, and this time counts from now on."""
    before = done()
    st.session_state[_PASSES] = min(WHOLE, before + 1)
    return before
