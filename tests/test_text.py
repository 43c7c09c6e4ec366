"""Names and values in messages: harmless for a terminal, and short."""

import pytest

from cyclemlp.text import printable, shown


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
