"""Which Chinese pages are behind the English pages that they are translations of.

    python docs/translations.py                 lists them; writes or removes the notice that a page is behind
    python docs/translations.py --check         writes nothing; exit code 1 if a notice is wrong
    python docs/translations.py --done PAGE …   records that these translations are of the English pages as they are now

docs/zh/PAGE.md is the translation of docs/PAGE.md. Its first line says so, with a hash of the words of the source, so
that other line breaks change nothing: `<!-- translated from ../training.md, sha256 … -->`. A new page has -.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MARK = re.compile(r"\A<!-- translated from (?P<source>\S+), sha256 (?P<sha256>[0-9a-f]{64}|-) -->\n")
NOTICE = "> **注意**：英文页面在本页翻译之后有改动，请以[英文页面]({source})为准。\n\n"
NOTICE_LINE = re.compile(r"^> \*\*注意\*\*：英文页面在本页翻译之后有改动.*\n\n", re.MULTILINE)


class NoSourceError(ValueError):
    """A page does not name the English page that it is a translation of, or names one that is not there."""


@dataclass(frozen=True)
class Translation:
    """A Chinese page and its English source."""

    path: Path
    source: Path
    recorded: str  # hash of the source when the translation was last brought up to date

    @property
    def behind(self) -> bool:
        """Whether the source changed since."""
        return self.recorded != sha256_of(self.source)

    def expected_text(self) -> str:
        """The page with the notice below its title if it is behind, without it if not."""
        text = NOTICE_LINE.sub("", self.path.read_text(encoding="utf-8"))
        if not self.behind:
            return text
        title = re.search(r"^# .*\n\n", text, re.MULTILINE)
        if title is None:
            raise NoSourceError(f"{self.path}: no line `# TITLE` with a blank line below it")
        notice = NOTICE.format(source=os.path.relpath(self.source, self.path.parent))
        return text[: title.end()] + notice + text[title.end() :]

    def text_when_done(self) -> str:
        """The page with the present hash of its source, without the notice."""
        text = NOTICE_LINE.sub("", self.path.read_text(encoding="utf-8"))
        return text.replace(f"sha256 {self.recorded} -->", f"sha256 {sha256_of(self.source)} -->", 1)


def sha256_of(source: Path) -> str:
    """Hash of the words of a page."""
    return hashlib.sha256(" ".join(source.read_text(encoding="utf-8").split()).encode()).hexdigest()


def translations(root: Path = ROOT) -> list[Translation]:
    """All Chinese pages of a repository, by path.

    Raises:
        NoSourceError: a page has no first line as above, or its source is not there.
    """
    return [
        open_translation(path)
        for path in [root / "README.zh-CN.md", *sorted((root / "docs/zh").rglob("*.md"))]
    ]


def open_translation(path: Path) -> Translation:
    """A Chinese page with what its first line says.

    Raises:
        NoSourceError: it has no such line, or its source is not there.
    """
    mark = MARK.match(path.read_text(encoding="utf-8"))
    if mark is None:
        raise NoSourceError(
            f"{path}: the first line is not `<!-- translated from PAGE, sha256 … -->`; sha256 may be -"
        )
    source = Path(os.path.normpath(path.parent / mark["source"]))
    if not source.is_file():
        raise NoSourceError(f"{path}: its source {mark['source']} does not exist")
    return Translation(path, source, mark["sha256"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit code 1 if a notice is wrong"
    )
    parser.add_argument(
        "--done",
        nargs="+",
        type=Path,
        default=[],
        metavar="PAGE",
        help="Chinese pages that are up to date now",
    )
    args = parser.parse_args()
    try:
        for path in args.done:
            path.write_text(open_translation(path).text_when_done(), encoding="utf-8")
        pages = translations()
        wrong = [page for page in pages if page.path.read_text(encoding="utf-8") != page.expected_text()]
    except (NoSourceError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for page in pages:
        print(f"{'behind' if page.behind else 'up to date':12}{page.path.relative_to(ROOT)}")
    for page in wrong:
        if args.check:
            print(f"{page.path.relative_to(ROOT)}: run `python docs/translations.py`", file=sys.stderr)
        else:
            page.path.write_text(page.expected_text(), encoding="utf-8")
    return 1 if args.check and wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
