"""YAML within bounds: what is refused, in one line that names the place, and what is read."""

import math

import pytest

from cyclemlp.errors import ConfigError
from cyclemlp.yaml_files import MAX_BYTES, check_yaml, parse_yaml, read_yaml_with_lines

MULTIPLYING = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{b}: &{b} [{','.join(['*' + a] * 9)}]\n" for a, b in zip("abcdefghi", "bcdefghij", strict=True)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("run: " + "[" * 100_000, "nested more than 20 deep"),
        ("{" * 100_000, "nested more than 20 deep"),
        ("- " * 50_000, "nested more than 20 deep"),
        ("".join(" " * i + "a:\n" for i in range(100)), r"r\.yaml:20: nested more than 20 deep"),
        (MULTIPLYING, r"r\.yaml:5: more than 20,000 values, those of aliases counted each time"),
        ("a: &a [*a]", "an alias stands within what it names"),
        ("a: [" + "x," * 30_000 + "]", "more than 20,000 values"),
        ("epochs: " + "1" * 100_000, "a number of 100,000 digits"),
        ("x" * (MAX_BYTES + 1), "has more than 262,144 characters"),
        ("a: 1\nb: 2\na: 3", r"r\.yaml:3: the key 'a' stands twice in one mapping, first in line 1"),
        ("a: {x: 1, x: 2}", "the key 'x' stands twice"),
        ("a: 2024-99-99", "not YAML: month must be in 1..12"),
        ("a: !!python/object/apply:os.system [ls]", "not YAML: could not determine a constructor"),
        ("a:\n\tb: 1", r"r\.yaml:2: not YAML: found character"),
        ("a: \x1b[31m", "not YAML: unacceptable character"),
        ("? [1]\n: 2", "not YAML: found unhashable key"),
        ("a: 1\n---\nb: 2", "not YAML: but found another document"),
        ("a: *b", "not YAML: found undefined alias 'b'"),
    ],
    ids=lambda value: value[:20].replace("\n", " ").replace("\x1b", ""),
)
def test_what_is_refused(text, message):
    with pytest.raises(ConfigError, match=message) as raised:
        parse_yaml(text, "r.yaml")
    assert len(str(raised.value)) < 300
    assert str(raised.value).isprintable()  # no line end either


def test_what_is_read():
    numbers = parse_yaml("[1e-3, 1E3, -2.5e+5, .5, 0x1f, .inf]", "x")
    assert numbers == [0.001, 1000.0, -250000.0, 0.5, 31, math.inf]
    assert parse_yaml("base: &base {x: 1, y: 1}\nown: {<<: *base, y: 2}", "x")["own"] == {"x": 1, "y": 2}
    assert parse_yaml("", "x") is None


def test_files_are_read_within_bounds_and_errors_name_them(tmp_path):
    (tmp_path / "a.yaml").write_text("\ufeffa: 1")
    value, lines = read_yaml_with_lines(tmp_path / "a.yaml")
    assert (value, lines.place(["a"]), lines.place(["b"])) == ({"a": 1}, ":1", "")
    (tmp_path / "tagged.yaml").write_text("a: !Dataset {x: 1}")
    check_yaml(tmp_path / "tagged.yaml")
    with pytest.raises(ConfigError, match=r"tagged\.yaml: not YAML: could not determine"):
        read_yaml_with_lines(tmp_path / "tagged.yaml")
    with (tmp_path / "large.yaml").open("wb") as file:
        file.truncate(1 << 40)  # no blocks; read whole it would take all memory
    for name, words in {
        "large.yaml": "more than 262,144 bytes",
        "none.yaml": "there is no such file",
        "": "is no file",
    }.items():
        for read in (read_yaml_with_lines, check_yaml):
            with pytest.raises(ConfigError, match=words):
                read(tmp_path / name)
    (tmp_path / "bytes.yaml").write_bytes(b"a: \xff")
    with pytest.raises(ConfigError, match=r"bytes\.yaml: cannot be read: .*utf-8"):
        read_yaml_with_lines(tmp_path / "bytes.yaml")


def test_a_pipe_is_not_waited_for(tmp_path):
    import os

    os.mkfifo(tmp_path / "pipe.yaml")
    with pytest.raises(ConfigError, match=r"pipe\.yaml: cannot be read: is no file"):
        read_yaml_with_lines(tmp_path / "pipe.yaml")
