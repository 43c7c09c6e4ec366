"""Class maps and lists of class names."""

from __future__ import annotations

import pytest

from cyclemlp.data import imagenet_class_map, imagenet_classes, read_class_map, read_class_names
from cyclemlp.errors import DataError


@pytest.fixture
def write(tmp_path):
    def write(content: str | bytes):
        path = tmp_path / "classes.txt"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def test_class_map_as_the_seed_writes_it(write):
    assert read_class_map(write("n01440764 0\r\nn01443537 1\n\nn01484850 2")) == {
        "n01440764": 0,
        "n01443537": 1,
        "n01484850": 2,
    }


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("n01 0\nn02\n", r"classes\.txt:2: 'n02' is not `wordnet-id index`"),
        ("n01 0\nn02 x\n", r"classes\.txt:2: "),
        ("n01 -1\n", r"classes\.txt:1: "),
        ("n01 0\n\nn01 1\n", r"classes\.txt:3: 'n01' was already given index 0"),
        ("", "is empty"),
        ("\r\n \n", "is empty"),
        (b"n01 0\nn\xe9 1\n", r"classes\.txt:2: is not UTF-8 \(byte 0xe9\)"),
        ("n01 0\n".encode("utf-16"), "is UTF-16"),
        (b"n01 0\nn02 1\0\n", r"classes\.txt:2: holds a zero byte"),
    ],
)
def test_bad_class_map_names_file_and_line(write, content, message):
    with pytest.raises(DataError, match=message):
        read_class_map(write(content))


def test_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"none\.txt: cannot be read: No such file"):
        read_class_map(tmp_path / "none.txt")


def test_class_names_with_and_without_indices(write):
    assert read_class_names(write("\ufeffcat\nguinea pig\n")) == ["cat", "guinea pig"]
    assert read_class_names(write("1 guinea pig\n0 cat\n")) == ["cat", "guinea pig"]
    assert read_class_names(write("0\n1\n")) == ["0", "1"]
    # One line without an index: the numbers are part of the names.
    assert read_class_names(write("7 spotted ladybug\nearwig\n")) == ["7 spotted ladybug", "earwig"]


@pytest.mark.parametrize(
    ("content", "message"), [("0 a\n0 b\n", ":2: .*twice"), ("0 a\n2 b\n", ":2: .*too large")]
)
def test_class_names_with_bad_indices(write, content, message):
    with pytest.raises(DataError, match=message):
        read_class_names(write(content))


def test_imagenet_is_built_in():
    names, mapping = imagenet_classes(), imagenet_class_map()
    assert len(names) == len(mapping) == 1000
    assert (names[0], names[2], names[999]) == ("tench", "great white shark", "toilet tissue")
    assert mapping["n01440764"] == 0
    assert list(mapping) == sorted(mapping)
    assert list(mapping.values()) == list(range(1000))
