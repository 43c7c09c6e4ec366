"""Links of a Markdown page to other files of the repository."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import unquote


def broken_links(page: Path, links: Iterable[str]) -> list[str]:
    """Those of a page's links that lead to no file, or to no heading of one; links to the web are passed over."""
    return [link for link in links if "://" not in link and not _leads_somewhere(page, link)]


def _leads_somewhere(page: Path, link: str) -> bool:
    path, _, anchor = unquote(link).partition("#")
    target = page.parent / path if path else page
    if not anchor:
        return target.exists()
    if not target.is_file():
        return False
    return anchor in anchors_of(target)


def anchors_of(page: Path) -> list[str]:
    """The anchors of a page's headings, from the first to the last."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return [_anchor(heading) for heading in re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)]


def _anchor(heading: str) -> str:
    """What GitHub makes of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")
