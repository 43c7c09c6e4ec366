"""Links of a Markdown page to other files of the repository."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path


def broken_links(page: Path, links: Iterable[str]) -> list[str]:
    """Those of a page's links that lead to no file, or to no heading of one; links to the web are passed over."""
    return [link for link in links if "://" not in link and not _leads_somewhere(page, link)]


def _leads_somewhere(page: Path, link: str) -> bool:
    path, _, anchor = link.partition("#")
    target = page.parent / path if path else page
    if not anchor:
        return target.exists()
    if not target.is_file():
        return False
    headings = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return anchor in map(_anchor, headings)


def _anchor(heading: str) -> str:
    """What GitHub makes of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")
