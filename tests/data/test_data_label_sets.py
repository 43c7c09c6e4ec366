"""Several labels an image: lists, CSV files with a column a class, and what reads and divides them."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from PIL import Image

from cyclemlp.data import (
    Digits,
    ImageFolder,
    ListFile,
    Mixup,
    View,
    build_loader,
    check_data,
    class_counts,
    evaluation_transform,
    labels_of,
    open_source,
    pair_classes,
    split_source,
    step_generator,
    write_split,
)
from cyclemlp.errors import ConfigError, DataError
from cyclemlp.preprocessing import Preprocessing

NAMES = ["cat", "dog", "outdoor"]


@pytest.fixture
def opened(tmp_path):
    """A list's text → the source, of several labels an image."""

    def open_list(text, name="list.txt", **options):
        (tmp_path / name).write_text(text)
        return ListFile(tmp_path, tmp_path / name, **{"multi_label": True, **options})

    return open_list


def labels(source):
    return [source.label(index) for index in range(len(source))]


@pytest.mark.parametrize(
    ("text", "name", "names"),
    [
        ("a b.jpg 1,2\nc.jpg -\nd.jpg 0\n", "list.txt", None),
        ("a b.jpg outdoor,dog\nc.jpg -\nd.jpg cat\n", "list.txt", NAMES),
        ('image,labels\na b.jpg,"dog,outdoor"\nc.jpg,\nd.jpg,cat\n', "list.csv", None),
        ("path;tags;label\na b.jpg;x;dog|outdoor\nc.jpg;x;-\nd.jpg;x;cat\n", "list.csv", None),
        ("path,cat,dog,outdoor\na b.jpg,0,1,1\nc.jpg,0,0,0\nd.jpg,1.0,0.0,0\n", "list.csv", None),
        ("size,outdoor,path,dog,cat\n9,1,a b.jpg,1,0\n8,0,c.jpg,0,0\n7,0,d.jpg,0,1\n", "list.csv", NAMES),
    ],
)
def test_every_way_of_writing_gives_the_same_labels(opened, text, name, names):
    source = opened(text, name, names=names)
    assert [source.name(i) for i in range(3)] == ["a b.jpg", "c.jpg", "d.jpg"]
    assert labels(source) == [(1, 2), (), (0,)]
    assert source.num_classes == 3
    assert source.classes == (NAMES if name.endswith("csv") or names else None)
    assert source.highest_label() == 2
    assert class_counts(source, 3).tolist() == [1, 1, 1]
    with pytest.raises(DataError, match=r"list.*:[12]: the images have several labels each"):
        labels_of(source)


@pytest.mark.parametrize(
    ("text", "name", "options", "message"),
    [
        ("a.jpg 0,,1\n", "l.txt", {}, r"l.txt:1: '0,,1' has an empty label; .* has `-`"),
        ("a.jpg 0\nb.jpg 1,\n", "l.txt", {}, r"l.txt:2: '1,' has an empty label"),
        ("a.jpg\n", "l.txt", {}, r"l.txt:1: .* one word; .* `name label,label`, or `name -` without labels"),
        ("a.jpg 0,1\nb.jpg 1,5\n", "l.txt", {"num_classes": 3}, r"l.txt:2: the label 5 is out of range"),
        ("a.jpg 0\nb.jpg dog,0\n", "l.txt", {}, r"l.txt:2: the label 'dog' is not a class number"),
        (
            "a.jpg cat\nb.jpg cat,emu\n",
            "l.txt",
            {"names": NAMES},
            r"l.txt:2: the label 'emu' is none of the 3",
        ),
        ("a.jpg -\n", "l.txt", {}, r"l.txt: no image has a label"),
        (
            "path,cat,dog\na.jpg,0,1\nb.jpg,2,1\n",
            "l.csv",
            {},
            r"l.csv:3: the column 'cat' has '2'; expected 0 or 1",
        ),
        ("path,cat,width\na.jpg,0,64\n", "l.csv", {}, r"l.csv:2: .*'width' has '64'.* by --classes FILE"),
        ("path,cat\na.jpg,0\n", "l.csv", {"names": NAMES}, r"l.csv:1: no column is called 'dog', 'outdoor'"),
        ("path\na.jpg\n", "l.csv", {}, r"l.csv:1: there is no class"),
        ("path,cat,cat\na.jpg,0,1\n", "l.csv", {}, r"l.csv:1: .*'cat' more than once"),
        ("path,cat,dog\na.jpg,0\n", "l.csv", {}, r"l.csv:2: has 2 columns; expected at least 3"),
        (
            "image,labels\na.jpg,dog,cat\n",
            "l.csv",
            {},
            r'l.csv:2: has 3 columns, and the first row 2.*"dog,outdoor"',
        ),
    ],
)
def test_what_cannot_be_read_is_named_with_its_line(opened, text, name, options, message):
    with pytest.raises(DataError, match=message):
        opened(text, name, **options)


def test_a_name_that_cannot_be_told_from_several_is_refused(opened):
    with pytest.raises(ConfigError, match=r"'shark, white' cannot be read .* rename the class"):
        opened("a.jpg 0\n", names=["cat", "shark, white"])
    columns = 'path,cat,"shark, white"\na.jpg,0,1\n'
    assert labels(opened(columns, "l.csv", names=["cat", "shark, white"])) == [(1,)]


@pytest.mark.parametrize(
    ("text", "name", "names"),
    [
        ("a.jpg 0\nb.jpg 0,1\n", "l.txt", None),
        ("a.jpg cat\nb.jpg cat,dog\n", "l.txt", NAMES),
        ('image,label\na.jpg,cat\nb.jpg,"cat,dog"\n', "l.csv", None),
        ("image,label\na.jpg,cat\nb.jpg,cat|dog\n", "l.csv", NAMES),
        ("path,cat,dog\na.jpg,1,0\nb.jpg,1,1\n", "l.csv", None),
    ],
)
def test_several_labels_where_one_is_expected_are_refused_with_the_way_out(opened, text, name, names):
    with pytest.raises(DataError, match=r"l\.\w+:[123]: .*several labels an image need --labels multi"):
        opened(text, name, names=names, multi_label=False)


def test_a_class_whose_name_has_a_comma_is_one_class_where_the_names_are_given(opened):
    text = 'image,label\na.jpg,"shark, white"\nb.jpg,cat\n'
    assert labels(opened(text, "l.csv", names=["cat", "shark, white"], multi_label=False)) == [1, 0]


def test_columns_of_which_all_are_zero_have_classes_all_the_same(opened):
    source = opened("path,cat,dog\na.jpg,0,0\n", "l.csv")
    assert (source.num_classes, source.classes, labels(source)) == (2, ["cat", "dog"], [()])


def test_one_label_an_image_is_taken_as_several_with_a_warning(opened):
    with pytest.warns(UserWarning, match="no image has more than one label. Labels are separated by"):
        source = opened("image,labels\na.jpg,haze primary\nb.jpg,haze\n", "l.csv")
    assert source.classes == ["haze", "haze primary"]
    assert labels(source) == [(1,), (0,)]


def test_a_source_of_one_class_an_image_is_taken_as_several(tmp_path):
    digits = open_source("digits", mode="val", multi_label=True)
    assert digits.label(3) == (Digits("val").label(3),)
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        Image.new("L", (20, 20)).save(tmp_path / name / "1.png")
    folder = open_source(str(tmp_path), mode="train", multi_label=True)
    assert labels(folder) == [(0,), (1,)]
    assert labels(ImageFolder(tmp_path)) == [0, 1]


def test_classes_are_paired_by_name(opened):
    source = opened('image,labels\na.jpg,"dog,cat"\nb.jpg,cat\n', "l.csv")
    paired = pair_classes(source, ["dog", "emu", "cat"], 3, what="these", whose="the model", way_out="")
    assert labels(paired) == [(0, 2), (2,)]
    numbers = pair_classes(opened("a.jpg 0,1\n"), None, 5, what="these", whose="the model", way_out="")
    assert (numbers.num_classes, labels(numbers)) == (5, [(0, 1)])


@pytest.fixture
def images(tmp_path):
    """40 images; the list has a label set for each."""
    sets = [(), (0,), (0, 1), (2,), (0, 2)]
    lines = []
    for i in range(40):
        Image.new("L", (20, 20), 6 * i).save(tmp_path / f"{i}.png")
        lines.append(f"{i}.png {','.join(map(str, sets[i % 5])) or '-'}\n")
    (tmp_path / "all.txt").write_text("".join(lines))
    return ListFile(tmp_path, tmp_path / "all.txt", multi_label=True)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_batch_has_a_row_of_zeros_and_ones_an_image(images, workers):
    transform = evaluation_transform(Preprocessing(input_size=16, mean=(0.5,), std=(0.5,)))
    loader = build_loader(images, transform, batch_size=5, num_workers=workers)
    batch = next(iter(loader))
    assert batch.labels.dtype == np.float32
    assert batch.labels.tolist() == [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 0, 1], [1, 0, 1]]


def test_mixing_mixes_the_labels_by_the_share_of_the_image():
    pixels = np.stack([np.zeros((1, 8, 8)), np.ones((1, 8, 8))]).astype(np.float32)
    truth = np.array([[1, 1, 0], [0, 1, 0]], dtype=np.float32)
    for kind in ({"cutmix_alpha": 0.0}, {"mixup_alpha": 0.0}):
        mixup = Mixup(3, **kind, label_smoothing=0.0)
        mixed, targets = mixup(pixels, truth, step_generator(0, 0, 0))
        share = 1 - mixed[0].mean()  # of the first image in itself
        assert 0 < share < 1
        np.testing.assert_allclose(targets, [[share, 1, 0], [1 - share, 1, 0]], atol=1e-6)
    smoothed = Mixup(3, 0.0, 0.0, label_smoothing=0.2)(pixels, truth, step_generator(0, 0, 0))[1]
    np.testing.assert_allclose(smoothed, [[0.9, 0.9, 0.1], [0.1, 0.9, 0.1]], atol=1e-6)


def test_the_check_counts_labels_and_images_without(images):
    report = check_data({"train": images})
    assert report.classes["train"] == {"0": 24, "1": 8, "2": 16}
    (finding,) = report.findings
    assert (finding.level, finding.kind, len(finding.images)) == ("warning", "unlabelled", 8)
    assert "8 of 40 images have no label" in finding.message


def test_the_check_finds_the_same_image_with_other_labels_and_a_class_of_all_images(tmp_path):
    for name in "ab":
        Image.new("L", (20, 20), 9).save(tmp_path / f"{name}.png")
    (tmp_path / "l.txt").write_text("a.png 0,1\nb.png 1\n")
    report = check_data({"train": ListFile(tmp_path, tmp_path / "l.txt", multi_label=True)})
    kinds = {finding.kind: finding.message for finding in report.findings}
    assert "with another class: 1 and 0, 1" in kinds["duplicate"]
    assert "every image has '1'" in kinds["full_class"]


@pytest.mark.parametrize(
    ("name", "text"),
    [("l.csv", "image,label\na.png,cat\nb.png,dog\na.png,dog\n"), ("l.txt", "a.png 0\nb.png 1\n\na.png 1\n")],
)
def test_a_line_for_each_label_of_an_image_is_an_error(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    with pytest.raises(
        DataError, match=rf"{name}:4: 'a\.png' was already named in line [12], with other labels"
    ):
        ListFile(tmp_path, tmp_path / name, multi_label=True)
    with pytest.warns(UserWarning, match="1 of them with another label"):
        ListFile(tmp_path, tmp_path / name)


def test_a_class_without_images_is_an_error_in_training_and_a_warning_in_validation(tmp_path):
    (tmp_path / "l.txt").write_text("0.png 0,1\n")
    Image.new("L", (20, 20)).save(tmp_path / "0.png")
    source = ListFile(tmp_path, tmp_path / "l.txt", multi_label=True, num_classes=3)
    for part, level in (("train", "error"), ("val", "warning")):
        found = {finding.kind: finding for finding in check_data({part: source}).findings}
        assert found["empty_class"].level == level
        assert found["empty_class"].message == f"{part}: classes without images: '2'"


def test_a_split_has_each_label_and_the_unlabelled_by_their_shares(images, tmp_path):
    split = split_source(images, val=0.25)
    assert split.counts == {
        -1: {"train": 6, "val": 2},
        0: {"train": 18, "val": 6},
        1: {"train": 6, "val": 2},
        2: {"train": 12, "val": 4},
    }
    written = write_split(tmp_path, images, split)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        parts = [ListFile(tmp_path, path, multi_label=True) for path in written]
    found = {part.name(i): part.label(i) for part in parts for i in range(len(part))}
    assert found == {images.name(i): images.label(i) for i in range(40)}
    turned = View(images, indices=np.arange(40)[::-1])
    again = split_source(turned, val=0.25)
    assert {turned.name(i) for i in again.parts["val"]} == {images.name(i) for i in split.parts["val"]}


def test_a_label_that_is_only_in_training_is_told(tmp_path):
    (tmp_path / "l.txt").write_text("".join(f"{i}.png {'0,1' if i else '0,2'}\n" for i in range(8)))
    source = ListFile(tmp_path, tmp_path / "l.txt", multi_label=True)
    with pytest.warns(UserWarning, match="only in training, having one image each: class 2"):
        split_source(source, val=0.25)
