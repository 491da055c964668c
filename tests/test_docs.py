"""What the documentation shows can be done: its plans are plans, its links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from eventbus.load.plan_file import plan_of
from eventbus.toml_text import TomlText

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("*/README.md")])


def test_plan_in_the_documentation() -> None:
    """The plan that docs/load.md shows can be run as it stands."""
    (text,) = re.findall(r"```toml\n(.*?)```", (ROOT / "docs/load.md").read_text(encoding="utf-8"), re.DOTALL)
    plan = plan_of(TomlText(text, "docs/load.md"), ROOT)
    assert (plan.rate, plan.duration_s, len(plan.thresholds)) == (2_000.0, 120.0, 2)
    assert plan.rules is not None
    assert plan.rules[0].name == "backlog"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages(page: Path) -> None:
    """A link to a file of the project leads to one."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text)
    gone = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert not gone
