"""List files: `name label` a line, read by mode and never by a guess."""

from __future__ import annotations

import pickle
import warnings

import pytest
from PIL import Image

from cyclemlp.data import ListFile
from cyclemlp.errors import ConfigError, DataError


@pytest.fixture
def root(tmp_path):
    """A folder with a.png (red), `with two  spaces.png` (green) and deep/é.png (blue)."""
    (tmp_path / "deep").mkdir()
    for name, colour in [("a.png", "red"), ("with two  spaces.png", "lime"), ("deep/é.png", "blue")]:
        Image.new("RGB", (5, 4), colour).save(tmp_path / name)
    return tmp_path


def make(root, content, **options):
    path = root / "list.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return ListFile(root, path, **{"mode": "train", **options})


def names(source):
    return [source.name(i) for i in range(len(source))]


def test_the_label_is_the_last_word(root):
    source = make(root, "a.png 1\nwith two  spaces.png\t 0\ndeep/é.png 2\n")
    assert names(source) == ["a.png", "with two  spaces.png", "deep/é.png"]
    assert [source.label(i) for i in range(3)] == [1, 0, 2]
    assert source.num_classes == 3
    assert [source[i].image.getpixel((0, 0)) for i in range(3)] == [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    assert source[1].label == 0
    assert source[-1].index == 2


def test_in_test_mode_the_whole_line_is_the_name(root):
    source = make(root, "a.png\nwith two  spaces.png\na.png 1\n deep/é.png \n", mode="test")
    assert names(source) == ["a.png", "with two  spaces.png", "a.png 1", " deep/é.png "]
    assert source.label(0) is None
    assert source.num_classes is None
    assert source[1].image.getpixel((0, 0)) == (0, 255, 0)
    assert source[1].label is None


def test_windows_line_ends_byte_order_mark_and_blank_lines(root):
    source = make(root, "\ufeff\r\n a.png 1\r\n\r\n   \r\ndeep/é.png 0".encode())
    assert names(source) == [" a.png", "deep/é.png"]
    assert source.location(1).endswith("list.txt:5")
    assert names(make(root, "\ufeffa.png\r\n\r\ndeep/é.png\r\n".encode(), mode="test")) == [
        "a.png",
        "deep/é.png",
    ]


def test_absolute_names_and_names_that_climb_out(root, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    Image.new("L", (3, 3), 7).save(other / "b.png")
    source = make(root, f"{other}/b.png 0\n../{other.name}/b.png 1\n")
    assert source[0].image.getpixel((0, 0)) == source[1].image.getpixel((0, 0)) == 7


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a.png 0\na.png\n", r"list\.txt:2: 'a\.png' is one word"),
        ("a.png 0\n\nb.png one\n", r"list\.txt:3: the label 'one' is not a class number"),
        ("a.png -1\n", r"list\.txt:1: the label '-1'"),
        ("a.png 1.0\n", r"list\.txt:1: the label '1\.0'"),
        ("a.png 1_0\n", r"list\.txt:1: the label '1_0'"),
        ("a.png 9999999999\n", r"list\.txt:1: the label '9999999999'"),
        ("", r"list\.txt: is empty"),
        ("\n\n", r"list\.txt: is empty"),
        (b"a.png 0\n\xff\xfe\xff 0\n", r"list\.txt:2: is not UTF-8"),
        ("a.png 0\n".encode("utf-16"), r"list\.txt: is UTF-16"),
    ],
)
def test_bad_line_is_named(root, content, message):
    with pytest.raises(DataError, match=message):
        make(root, content)


def test_label_out_of_range_names_the_first_line_and_the_count(root):
    with pytest.raises(DataError, match=r"list\.txt:3: the label 3 is out of range.* 0 to 2 \(2 of 4 lines"):
        make(root, "a.png 0\nb.png 2\nc.png 3\nd.png 7\n", num_classes=3)


def test_class_map_gives_the_labels(root):
    source = make(root, "a.png n02\ndeep/é.png n01\n", class_map={"n01": 0, "n02": 1, "n03": 2})
    assert [source.label(0), source.label(1)] == [1, 0]
    assert source.num_classes == 3
    assert source.classes == ["n01", "n02", "n03"]
    with pytest.raises(DataError, match=r"list\.txt:2: the label '0' is not in the class map"):
        make(root, "a.png n01\ndeep/é.png 0\n", class_map={"n01": 0})


def test_missing_image_is_named_with_its_line_when_it_is_asked_for(root):
    source = make(root, "a.png 0\n\nno.png 1\ndeep 1\n")
    with pytest.raises(DataError, match=r"list\.txt:3: the image '.*no\.png' does not exist"):
        source[1]
    with pytest.raises(DataError, match=r"list\.txt:4: the image '.*deep' is a folder"):
        source[2]
    with pytest.raises(IndexError):
        source[3]


def test_a_labelled_list_in_test_mode_is_explained(root):
    source = make(root, "a.png 0\n", mode="test")
    with pytest.raises(DataError, match=r"'a\.png' does exist: .*mode val"):
        source[0]


def test_duplicates_are_one_warning_with_count_and_first_place(root):
    with pytest.warns(UserWarning, match="already named") as caught:
        source = make(root, "a.png 0\n\nb.png 1\nb.png 1\na.png 2\na.png 0\n")
    assert len(caught) == 1
    assert "list.txt:4: 'b.png' was already named in line 3" in str(caught[0].message)
    assert "3 lines repeat a name" in str(caught[0].message)
    assert "2 of them with another label" in str(caught[0].message)
    assert len(source) == 5


def test_no_warning_without_duplicates(root):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make(root, "a.png 0\nA.png 1\na.png2 0\n")


def test_missing_list_root_and_mode(root):
    with pytest.raises(DataError, match=r"no\.txt: cannot be read"):
        ListFile(root, root / "no.txt")
    with pytest.raises(DataError, match="no: there is no such folder"):
        ListFile(root / "no", root / "list.txt")
    with pytest.raises(ConfigError, match="'valid'; use one of train, val, test"):
        make(root, "a.png 0\n", mode="valid")


def test_it_is_small_to_hand_to_a_worker(root):
    content = "".join(f"train/n{i % 1000:08d}/n{i % 1000:08d}_{i}.JPEG {i % 1000}\n" for i in range(20_000))
    source = make(root, content)
    # 20 bytes a line beside the names: start, length, line, label.
    assert len(pickle.dumps(source)) < len(content) + 25 * 20_000
    again = pickle.loads(pickle.dumps(source))
    assert (again.name(19_999), again.label(19_999)) == (source.name(19_999), 999)
