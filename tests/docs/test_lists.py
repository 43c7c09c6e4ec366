"""Lists in the documentation that repeat what the code has."""

from __future__ import annotations

import re
from pathlib import Path

from cyclemlp.data.images import EXTENSIONS

DOCS = Path(__file__).parents[2] / "docs"


def test_the_suffixes_of_images_are_those_that_folders_are_searched_for():
    page = (DOCS / "data.md").read_text(encoding="utf-8")
    (listed,) = re.findall(r"Images are `([^`]+)`", page)
    assert listed.split() == sorted(EXTENSIONS)
