"""Names and values in messages: harmless for a terminal, and short."""

import ast
import io
import json
import re
import sys
from pathlib import Path

import pytest

import cyclemlp
from cyclemlp.text import (
    PrintableStream,
    counted,
    json_text,
    line_of,
    part_of,
    printable,
    printable_output,
    raw_stream,
    shown,
)


def test_control_characters_are_escaped():
    assert printable("a\x1b]0;owned\x07.png") == "a\\x1b]0;owned\\x07.png"
    assert printable("\r\x00\x7f\x9b31m") == "\\x0d\\x00\\x7f\\x9b31m"
    assert printable("gnp\u202egpj.exe") == "gnp\\u202egpj.exe"
    assert printable("caf\udce9.png") == "caf\\xe9.png"  # a byte that is no UTF-8
    assert printable("Größe 日本 é.png") == "Größe 日本 é.png"
    assert printable("two\nlines\t") == "two\nlines\t"
    assert printable("two\nlines\t", lines=False) == "two\\nlines\\t"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.1, "0.1"),
        ("a\nb", "'a\\nb'"),
        ([1, "a", None], "[1, 'a', None]"),
        ({"a": [1, {"b": [2]}]}, "{'a': [1, {'b': […]}]}"),
        (list(range(9)), "[0, 1, 2, 3, 4, 5, …]"),
        (1 << 20_000, "a whole number of 20,001 bits"),
        ([], "[]"),
        ((1,), "(1)"),
    ],
    ids=range(8),
)
def test_values_are_shown_on_a_line(value, text):
    assert shown(value) == text


def test_what_is_large_is_cut():
    deep = []
    for _ in range(100_000):
        deep = [deep]
    for value in ("x" * 10**6, b"x" * 10**6, deep, [["x" * 1000] * 1000] * 1000, {"k" * 1000: 1}):
        assert len(shown(value)) <= 80
    while deep:  # Python takes deep lists apart by recursion
        deep = deep.pop()


def test_a_name_starts_no_line_of_a_message():
    assert line_of("no file a\nerror: b.png\t1") == "no file a\\nerror: b.png\\t1"
    assert line_of("it differs:\n  head.bias\n  head.weight") == "it differs:\n  head.bias\n  head.weight"


@pytest.mark.parametrize(
    "text", ["a\x1b[31m\x07\x7f\x9b\r\n", "gnp\u202egpj", "caf\udce9", "日本"], ids=range(4)
)
def test_json_on_a_terminal_is_harmless_and_means_the_same(text):
    line = json_text({"name": text})
    assert line.isascii()
    assert line.isprintable()
    assert json.loads(line) == {"name": text}


def test_what_is_printed_is_printable(capsys):
    before = sys.stdout, sys.stderr
    with printable_output(), printable_output():  # a command within a command
        print("a\x1b]0;owned\x07", "日本")
        print("b\x9b31m\udce9", file=sys.stderr)
        raw_stream(sys.stderr).write("\r50 %")  # a progress bar
    assert (sys.stdout, sys.stderr) == before
    assert capsys.readouterr() == ("a\\x1b]0;owned\\x07 日本\n", "b\\x9b31m\\xe9\n\r50 %")


def test_a_stream_that_lacks_a_character_ends_nothing():
    ascii_file = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    stream = PrintableStream(ascii_file)
    stream.writelines(["224×224 ", "日本\n"])
    stream.flush()
    assert ascii_file.buffer.getvalue() == b"224\\xd7224 \\u65e5\\u672c\n"


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ((0, "image"), "0 images"),
        ((1, "image"), "1 image"),
        ((1200, "image"), "1,200 images"),
        ((1, "class"), "1 class"),
        ((2, "class"), "2 classes"),
        ((2, "compatibility patch"), "2 compatibility patches"),
        ((2, "branch"), "2 branches"),
        ((2, "epoch"), "2 epochs"),
        ((2, "category"), "2 categories"),
        ((2, "array"), "2 arrays"),
        ((1, "image is", "images are"), "1 image is"),
        ((2, "image is", "images are"), "2 images are"),
    ],
)
def test_a_number_has_its_noun(words, text):
    assert counted(*words) == text


def test_a_part_has_its_verb():
    assert part_of(1, 3, "image", "is", "are") == "1 of 3 images is"
    assert part_of(2, 1000, "class", "has", "have") == "2 of 1,000 classes have"


#: What our messages count.
NOUNS = (
    *(
        "block",
        "buffer",
        "caption",
        "category",
        "channel",
        "character",
        "class",
        "column",
        "crowd",
        "digit",
        "device",
    ),
    *(
        "entry",
        "epoch",
        "error",
        "evaluation",
        "fault",
        "file",
        "find",
        "folder",
        "image",
        "label",
        "line",
        "map",
    ),
    *(
        "mark",
        "mask",
        "name",
        "network",
        "number",
        "object",
        "other",
        "output",
        "pair",
        "parameter",
        "part",
        "patch",
    ),
    *(
        "process",
        "row",
        "scene",
        "stage",
        "step",
        "tensor",
        "thread",
        "threshold",
        "time",
        "value",
        "view",
        "warning",
    ),
    *("weight", "word"),
)
PLURALS = "|".join(counted(2, noun).removeprefix("2 ") for noun in NOUNS)


def uncounted(source: str) -> list[str]:
    """f-strings in which a number that may be 1 stands before a plural: "{len(images)} images", "{count:,} classes".

    Numbers are told by `len`, a sum, or a separator of thousands. In "3 of {len(images)} images" the plural is right.
    """
    found = []
    for string in (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.JoinedStr)):
        parts = [ast.Constant(""), *string.values]
        for before, value, after in zip(parts, parts[1:], parts[2:], strict=False):
            if not isinstance(value, ast.FormattedValue) or not isinstance(after, ast.Constant):
                continue
            number, form = ast.unparse(value.value), value.format_spec and ast.unparse(value.format_spec)
            words = re.match(
                rf" ((?:good|more|offset|such|training|validation) )?({PLURALS})\b", str(after.value)
            )
            is_number = re.match(r"(len|sum|int)\(|.*\.(sum|total)\(\)$", number) or form == "f','"
            is_part = isinstance(before, ast.Constant) and str(before.value).endswith(("of ", "up to "))
            if words and is_number and not is_part and not number.isupper():
                found.append(f"{{{number}}}{words[0]}")
    return found


def test_one_is_not_written_with_a_plural():
    assert uncounted('f"{len(images)} images, {count:,} good pairs, {x:.1f} images, {MOST:,} names"') == [
        "{len(images)} images",
        "{count} good pairs",
    ]
    package = Path(cyclemlp.__file__).parent
    found = {
        str(path.relative_to(package)): messages
        for path in sorted(package.rglob("*.py"))
        if (messages := uncounted(path.read_text(encoding="utf-8")))
    }
    assert not found, "write {counted(number, 'image')}, from cyclemlp.text"
