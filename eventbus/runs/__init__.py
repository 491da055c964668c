"""Runs that were kept: find them, look into them, compare them, hand them on.

    from eventbus import runs

    runs.list()                     the newest first; in a notebook a table
    run = runs.open("last")         or an id, the beginning of one, or "baseline"
    run.summary                     what it came to
    run.to_frame()                  tidy, in UTC, with units in the names
    runs.compare(["baseline", "last"])
    run = await runs.drive("smoke", url="nats://127.0.0.1:4222")        a preset, a plan's file, or a LoadPlan

All but ``drive`` reads; names, notes and pins are changed by ``eventbus.observe.RunEditor``. ``store`` is a file, by
default the one that the dashboard and the command line write. Raises StoreError where it cannot be read, and
ConfigError where there is no such run, or where a package of the extra ``runs`` is missing.
"""

from eventbus.runs.comparison import Comparison
from eventbus.runs.driven import drive
from eventbus.runs.kept import compare, list, open
from eventbus.runs.listing import Runs, run_row, run_words
from eventbus.runs.run import FILES, FRAMES, Run, figure_words, threshold_text
from eventbus.viz.summary import summarize

__all__ = [
    "FILES",
    "FRAMES",
    "Comparison",
    "Run",
    "Runs",
    "compare",
    "drive",
    "figure_words",
    "list",
    "open",
    "run_row",
    "run_words",
    "summarize",
    "threshold_text",
]
