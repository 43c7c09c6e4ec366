"""CSV files as lists of images."""

from __future__ import annotations

import numpy as np
import pytest

from cyclemlp.data import ListFile
from cyclemlp.errors import DataError


def listed(tmp_path, text, name="list.csv", **options):
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return ListFile(tmp_path, tmp_path / name, **options)


def rows(source):
    return [(source.name(index), source.label(index)) for index in range(len(source))]


@pytest.mark.parametrize(
    "text",
    [
        "image,label\na.png,cat\nb c.png,dog\n",
        "\ufeffimage,label\r\na.png,cat\r\n\r\nb c.png,dog\r\n",
        "label,split,filename\ncat,x,a.png\ndog,y,b c.png\n",
        "Path;Class\na.png;cat\nb c.png;dog\n",
        'file\ttarget\na.png\tcat\n"b c.png"\tdog',
        "a.png,cat\nb c.png,dog\n",
    ],
)
def test_heads_and_delimiters(tmp_path, text):
    source = listed(tmp_path, text)
    assert rows(source) == [("a.png", 0), ("b c.png", 1)]
    assert (source.classes, source.num_classes) == (["cat", "dog"], 2)
    assert source.location(1).startswith(f"{tmp_path / 'list.csv'}:")


def test_numbers_are_class_numbers(tmp_path):
    source = listed(tmp_path, "image,label\na.png,3\nb.png,0\n", num_classes=5)
    assert (rows(source), source.classes, source.num_classes) == ([("a.png", 3), ("b.png", 0)], None, 5)


def test_names_give_the_order(tmp_path):
    source = listed(tmp_path, "image,label\na.png,cat\n", names=["dog", "cat"])
    assert (rows(source), source.classes) == ([("a.png", 1)], ["dog", "cat"])


def test_a_head_makes_any_file_a_csv(tmp_path):
    assert rows(listed(tmp_path, "image,label\na b.png,cat\n", "list.txt")) == [("a b.png", 0)]
    assert rows(listed(tmp_path, "image,label.png 1\n", "other.txt")) == [("image,label.png", 1)]


def test_without_labels(tmp_path):
    assert rows(listed(tmp_path, "id,image\n1,a.png\n2,b.png\n", mode="test")) == [
        ("a.png", None),
        ("b.png", None),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,label\na.png\n", r"list.csv:2: has 1 column; expected at least 2"),
        ("image,label\na.png,\n", r"list.csv:2: has no label"),
        ("image,label\n,cat\n", r"list.csv:2: names no image"),
        ("image,width\na.png,3\n", r"list.csv:1: no column is called label, class"),
        ("one,two\na.png,3\n", r"list.csv:1: 'one, two' is no head of a CSV file of images"),
        ("image,label\n", "names no image"),
        ('image,label\n"a.png,cat\n', r"list.csv:\d: is no CSV: unexpected end of data"),
        ("image,label\n" + "x" * 5000 + ",cat\n", r"list.csv:2: .* has 5,000 bytes; a file's name has 4,096"),
        ("image,label\n" + "x" * 200_000 + ",cat\n", "field larger than field limit"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(tmp_path, text, message):
    with pytest.raises(DataError, match=message) as error:
        listed(tmp_path, text)
    assert len(str(error.value)) < 600


def test_a_list_of_words_says_what_to_do(tmp_path):
    with pytest.raises(
        DataError, match=r"list.txt:2: the label 'dog' is not a class number .* needs --classes FILE"
    ):
        listed(tmp_path, "a.png 0\nb.png dog\n", "list.txt")
    source = listed(tmp_path, "a.png cat\nb.png dog\n", "list.txt", names=["dog", "cat"])
    assert rows(source) == [("a.png", 1), ("b.png", 0)]


def test_a_huge_line_is_a_short_error(tmp_path):
    for text in (b"a" * 2_000_000, b"a" * 2_000_000 + b" 1"):
        with pytest.raises(DataError) as error:
            listed(tmp_path, text, "list.txt")
        assert len(str(error.value)) < 400


def test_devices_are_no_lists(tmp_path):
    with pytest.raises(DataError, match="no regular file"):
        ListFile(tmp_path, "/dev/zero")


def test_names_that_repeat_are_told(tmp_path):
    with pytest.warns(UserWarning, match="'a.png' was already named in line 2"):
        source = listed(tmp_path, "image,label\na.png,cat\nb.png,dog\na.png,dog\n")
    np.testing.assert_array_equal([label for _, label in rows(source)], [0, 1, 1])


def test_a_head_that_names_a_column_twice(tmp_path):
    (tmp_path / "list.csv").write_text("image,label,label\n1.png,cat,dog\n")
    with pytest.raises(DataError, match=r"list\.csv:1: the head names the column 'label' more than once"):
        ListFile(tmp_path, tmp_path / "list.csv", mode="val")
