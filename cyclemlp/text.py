"""Text that is safe to show: names and values from files, made harmless for a terminal and short enough for a line.

Standard library only, and nothing of ours: every room prints.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, TextIO

#: Length of a value in a message, in characters.
LONGEST_VALUE = 80
#: Items and levels of a value that a message shows.
MOST_ITEMS, MOST_LEVELS = 6, 3

# Categories Cc (control), Cs (surrogates, that is bytes of a name that are no UTF-8), and the characters that turn
# the direction of what follows. A line end and a tab are part of our own messages.
_UNSAFE = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")

# A line end after which no indented line follows.
_OPEN_LINE_END = re.compile(r"\n(?! )")


def printable(text: str, *, lines: bool = True) -> str:
    r"""Text without control characters: `\x1b` stands where an escape character was.

    A name of a file may hold any of them, and a terminal obeys: it changes its title, clears the screen, or shows
    other characters than those that are there.

    Args:
        text: any text; bytes of a file's name that are no UTF-8 show as `\xff`.
        lines: leave line ends and tabs as they are; without it they are escaped too.
    """
    text = _UNSAFE.sub(_escaped, text)
    return text if lines else text.replace("\n", "\\n").replace("\t", "\\t")


def shown(value: Any, longest: int = LONGEST_VALUE) -> str:
    """A value as `repr` shows it, on one line, of at most `longest` characters, however large or deep it is."""
    return shortened(printable(_repr(value, MOST_LEVELS, longest), lines=False), longest)


def shortened(text: str, longest: int = LONGEST_VALUE) -> str:
    """Text of at most `longest` characters; what is left out is an ellipsis."""
    return text if len(text) <= longest else text[: longest - 1] + "…"


def listed(texts: Sequence[str], most: int) -> str:
    """The first `most` of some texts; where there are others, how many there are in all."""
    return ", ".join(texts[:most]) + (f" … ({len(texts)} in all)" if len(texts) > most else "")


def counted(number: int, one: str, more: str | None = None) -> str:
    """A number with its noun: "1 image", "2 images", "1,200 images".

    Args:
        number: how many.
        one: the noun for 1, with what agrees with it: "image", "image is".
        more: for any other number, where it is not the noun's plural: "images are".
    """
    return f"{number:,} {one if number == 1 else more or _plural(one)}"


def part_of(part: int, whole: int, noun: str, one: str, more: str) -> str:
    """Some of a number, with their verb: "1 of 3 images is", "2 of 3 images are".

    Args:
        part, whole: how many of how many.
        noun: for 1.
        one, more: the verb for 1, and for any other number of the part.
    """
    return f"{part:,} of {counted(whole, noun)} {one if part == 1 else more}"


def _plural(noun: str) -> str:
    """By the rules of spelling: images, classes, patches, entries; but epochs."""
    if noun.endswith(("s", "x", "sh", "tch", "nch")):
        return f"{noun}es"
    return f"{noun[:-1]}ies" if noun.endswith("y") and noun[-2] not in "aeiou" else f"{noun}s"


def line_of(text: object) -> str:
    """`str(text)` as one line of a message: line ends that come from a name are escaped, too.

    Where a message of ours goes on in further lines, these are indented, and stay.
    """
    return _OPEN_LINE_END.sub(r"\\n", printable(str(text))).replace("\t", "\\t")


def with_lines(head: str, lines: Sequence[str], most: int) -> str:
    """A message that goes on in indented lines, `most` of them, each one line whatever it holds."""
    listed = [printable(line, lines=False) for line in lines[:most]]
    if len(lines) > most:
        listed.append(f"… and {len(lines) - most:,} more")
    return "\n  ".join([head, *listed])


def json_text(value: Any, indent: int | None = None) -> str:
    """JSON values as JSON in plain ASCII, in which nothing can reach a terminal that it obeys."""
    return json.dumps(value, indent=indent).replace("\x7f", "\\u007f")


class PrintableStream:
    """A text stream that passes everything through `printable`, for whoever writes to it.

    Characters that its encoding does not have are written as escapes, instead of ending the program.

    Attributes:
        raw: the stream itself, for what moves the cursor on purpose, as progress bars do.
    """

    def __init__(self, raw: TextIO) -> None:
        self.raw = raw

    def write(self, text: str) -> int:
        """Write it; the length of what was given."""
        encoding = self.raw.encoding or "utf-8"
        self.raw.write(printable(text).encode(encoding, "backslashreplace").decode(encoding))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write each."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.raw, name)


@contextmanager
def printable_output() -> Iterator[None]:
    """Within it, stdout and stderr are `PrintableStream`s: names of files and classes come from strangers."""
    before = sys.stdout, sys.stderr
    wrapped = (s if s is None or isinstance(s, PrintableStream) else PrintableStream(s) for s in before)
    sys.stdout, sys.stderr = wrapped  # has all that a stream has
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def raw_stream(stream: TextIO) -> TextIO:
    """The stream under a `PrintableStream`, or the stream."""
    return stream.raw if isinstance(stream, PrintableStream) else stream


def _escaped(match: re.Match[str]) -> str:
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:  # a byte that Python could not decode
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def _repr(value: Any, levels: int, longest: int) -> str:
    if isinstance(value, str | bytes | bytearray):
        part = value[: longest + 1]
        return repr(part)[: None if len(part) == len(value) else -1]
    if isinstance(value, bool) or value is None:
        return repr(value)
    if isinstance(value, int):
        # Python refuses to write out very long numbers, and takes long for long ones.
        return repr(value) if value.bit_length() < 1000 else f"a whole number of {value.bit_length():,} bits"
    if isinstance(value, Mapping):
        items: Iterable[str] = (
            f"{_repr(key, 0, longest)}: {_repr(item, levels - 1, longest)}"
            for key, item in islice(value.items(), MOST_ITEMS)
        )
        return _bracketed("{", items, "}", len(value), levels)
    if isinstance(value, list | tuple | set | frozenset):
        opening, closing = ("[", "]") if isinstance(value, list) else ("(", ")")
        items = (_repr(item, levels - 1, longest) for item in islice(value, MOST_ITEMS))
        return _bracketed(opening, items, closing, len(value), levels)
    try:
        return repr(value)
    except Exception:  # of a class that we do not know
        return f"a {type(value).__name__}"


def _bracketed(opening: str, items: Iterable[str], closing: str, count: int, levels: int) -> str:
    if levels <= 0 and count:
        return f"{opening}…{closing}"
    more = ", …" if count > MOST_ITEMS else ""
    return f"{opening}{', '.join(items)}{more}{closing}"
