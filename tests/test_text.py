"""Names and values in messages: harmless for a terminal, and short."""

import io
import json
import sys

import pytest

from cyclemlp.text import (
    PrintableStream,
    json_text,
    line_of,
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
