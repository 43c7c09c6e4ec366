"""Words on images: a font that has their letters, and sizes that are legible on a canvas of any size."""

from __future__ import annotations

import functools
import os
import unicodedata
import warnings
from collections.abc import Iterator, Sequence
from typing import TypeAlias

from PIL import Image, ImageFont

from cyclemlp.errors import ConfigError

Font: TypeAlias = ImageFont.FreeTypeFont

#: Environment variable that names a font file.
FONT_VARIABLE = "CYCLEMLP_FONT"
#: Pillow's own font has the letters of English only. For other names, the first of these that is installed and has
#: their letters.
FONT_FILES = (
    "DejaVuSans.ttf",
    "NotoSans-Regular.ttf",
    "LiberationSans-Regular.ttf",
    "NotoSansCJK-Regular.ttc",
    "wqy-zenhei.ttc",
    "wqy-microhei.ttc",
    "Arial Unicode.ttf",
)


class Words:
    """Names as they can be drawn: in the first font that has their letters, else by their number."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = [unicodedata.normalize("NFC", " ".join(str(name).split())) for name in names]
        letters = set("".join(self._names))
        self._file, missing = _find_font(frozenset(letters), os.environ.get(FONT_VARIABLE))
        if missing:
            lost = [name for name in self._names if missing & set(name)]
            warnings.warn(
                f"no font here has the letters of {', '.join(map(repr, lost[:5]))}{' …' if lost[5:] else ''}; these "
                "classes are drawn by their numbers. Install a font that has them (for Chinese, Japanese and Korean: "
                f"fonts-noto-cjk), or name its file in the environment variable {FONT_VARIABLE}",
                stacklevel=3,
            )
        self._missing = missing

    def name(self, index: int) -> str:
        """A name, or its number if no font has its letters."""
        name = self._names[index]
        return f"class {index}" if self._missing & set(name) else name

    def font(self, size: int) -> Font:
        """The font in a size in pixels."""
        return _open_font(self._file, size)


@functools.cache
def _find_font(letters: frozenset[str], named: str | None) -> tuple[str | None, frozenset[str]]:
    """The font's file (None: Pillow's own) that lacks the fewest of the letters, and those it lacks; `named` first."""
    best: tuple[str | None, frozenset[str]] | None = None
    for file in _font_files(named):
        try:
            font = _open_font(file, 20)
        except OSError:  # not installed
            continue
        missing = frozenset(letter for letter in letters if not _has_glyph(font, letter))
        if best is None or len(missing) < len(best[1]):
            best = file, missing
        if not missing:
            break
    assert best is not None  # Pillow's own is always there
    return best


def _font_files(named: str | None) -> Iterator[str | None]:
    if named:
        try:
            _open_font(named, 20)
        except OSError as error:
            raise ConfigError(
                f"{FONT_VARIABLE} is {named!r}, which is no font that can be read: {error}"
            ) from None
        yield named
    yield None
    yield from FONT_FILES


@functools.lru_cache(maxsize=64)
def _open_font(file: str | None, size: int) -> Font:
    return ImageFont.load_default(size) if file is None else ImageFont.truetype(file, size)


def _has_glyph(font: Font, letter: str) -> bool:
    """Whether a font draws a letter otherwise than one that no font has."""
    if letter.isspace():
        return True
    drawn, nothing = font.getmask(letter), font.getmask("\uffff")
    return drawn.size != nothing.size or bytes(drawn) != bytes(nothing)


def font_size(canvas: Image.Image) -> int:
    """Of words on a canvas, in pixels."""
    return max(14, round(max(canvas.size) / 45))


def line_width(canvas: Image.Image) -> int:
    """Of outlines on a canvas, in pixels."""
    return max(2, round(max(canvas.size) / 350))


def line_height(font: Font) -> int:
    """From one line to the next, in pixels."""
    return round(1.3 * font.size)


def pad(font: Font) -> int:
    """Beside the words of a tag, in pixels."""
    return max(2, round(font.size / 5))


def text_size(text: str, font: Font) -> tuple[int, int]:
    """Width and height in pixels of a tag with this text."""
    return round(font.getlength(text)) + 2 * pad(font), line_height(font)
