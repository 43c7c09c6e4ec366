"""What is wrong with a data set is found, and what is not wrong is not."""

from __future__ import annotations

import os

import numpy as np
import pytest
from PIL import Image

from cyclemlp.data import Digits, ImageFolder, check_data, find_split, open_images
from cyclemlp.errors import DataError


def image(path, seed, size=(20, 20)):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def root(tmp_path):
    for part, count in (("train", 3), ("val", 2)):
        for place, name in enumerate("ab"):
            for index in range(count):
                image(tmp_path / part / name / f"{index}.png", hash((part == "train", place, index)) % 2**32)
    return tmp_path


def found(root, **options):
    sources = {part: ImageFolder(root / part, allow_empty=True) for part in ("train", "val")}
    report = check_data(sources, **options)
    return report, [(finding.level, finding.kind) for finding in report.findings]


def test_nothing_is_wrong(root):
    report, findings = found(root)
    assert findings == []
    assert report.images == report.checked == {"train": 6, "val": 4}
    assert report.classes["train"] == {"a": 3, "b": 3}
    assert report.sizes["val"] == {"width": [20, 20, 20], "height": [20, 20, 20]}
    assert report.to_dict()["ok"]


def test_an_image_that_cannot_be_read(root):
    (root / "train/a/9.png").write_bytes((root / "train/a/0.png").read_bytes()[:200])
    (root / "val/b/9.png").touch()
    report, findings = found(root)
    assert findings == [("error", "unreadable")] * 2
    assert report.unreadable == {"train": [3], "val": [4]}
    assert "9.png" in report.findings[0].message


def test_the_same_image_twice(root):
    def copy(source, target):
        Image.open(root / source).save(root / target)  # other bytes, perhaps, and the same pixels

    copy("train/a/0.png", "train/b/twin.bmp")
    assert found(root)[1] == [("error", "duplicate")]
    (root / "train/b/twin.bmp").unlink()
    copy("train/a/0.png", "train/a/twin.bmp")
    assert found(root)[1] == [("warning", "duplicate")]
    (root / "train/a/twin.bmp").unlink()
    copy("train/a/0.png", "val/a/leak.bmp")
    report, findings = found(root)
    assert findings == [("error", "leak")]
    assert "leak.bmp is the same image as" in report.findings[0].message
    assert not report.to_dict()["ok"]


def test_classes_whose_names_differ_in_case_or_spaces_only(root):
    for part in ("train", "val"):
        (root / part / "b").rename(root / part / "Big_Cat")
        (root / part / "a").rename(root / part / "big cat")
    report, findings = found(root)
    assert findings == [("warning", "similar_classes")] * 2
    assert "'Big_Cat', 'big cat' differ in case or spaces only" in report.findings[0].message


def test_classes(root):
    (root / "train/empty").mkdir()
    for index in range(30):
        image(root / "train/a" / f"more{index}.png", 1000 + index)
    report, findings = found(root)
    assert findings == [("error", "empty_class"), ("warning", "imbalance")]
    assert "'empty'" in report.findings[0].message
    one = check_data({"train": open_images(root / "val/..", "val")})
    assert [finding.kind for finding in one.findings] == []
    with pytest.raises(DataError, match="holds no images"):
        ImageFolder(root / "train")


def test_odd_sizes_are_told(root):
    image(root / "train/a/small.png", 5, (8, 40))
    image(root / "train/a/long.png", 6, (400, 20))
    report, findings = found(root)
    assert findings == [("warning", "size")]
    assert [text.rsplit(" ", 1)[1] for text in report.findings[0].images] == ["(400×20)", "(8×40)"]


def test_a_sample_is_spread(root):
    (root / "train/b/2.png").write_bytes(b"")
    report, findings = found(root, sample=2)
    assert report.checked == {"train": 2, "val": 2}
    assert findings == [("error", "unreadable")]  # the last


def test_sources_without_files():
    assert check_data({"train": Digits("train")}, sample=50).errors == []


@pytest.mark.parametrize(
    ("train", "val"), [("train", "val"), ("Training", "validation"), ("train", "test"), ("training", "valid")]
)
def test_the_parts_of_a_data_set_are_found(tmp_path, train, val):
    for part in (train, val):
        image(tmp_path / part / "cat/0.png", 0)
        image(tmp_path / part / "dog/0.png", 1)
    assert find_split(tmp_path) == (tmp_path / train, tmp_path / val)
    assert open_images(tmp_path, "train").root == tmp_path / train
    assert open_images(tmp_path, "val").root == tmp_path / val


def test_classes_with_such_names_are_no_parts(tmp_path):
    for name in ("bus", "car", "train"):
        image(tmp_path / name / "0.png", 0)
    assert find_split(tmp_path) is None
    assert open_images(tmp_path, "train").classes == ["bus", "car", "train"]
    image(tmp_path / "test" / "0.png", 0)
    with pytest.raises(DataError, match="are train/ and test/ classes, or the two parts"):
        open_images(tmp_path, "train")


def test_training_images_alone(tmp_path):
    image(tmp_path / "train/cat/0.png", 0)
    with pytest.raises(DataError, match=r"holds train/ and no folder to evaluate on \(val, validation"):
        open_images(tmp_path, "train")


def test_what_systems_leave_behind_is_passed_over(tmp_path, recwarn):
    for name in ("cat", "dog"):
        image(tmp_path / name / "0.png", 0)
        (tmp_path / name / "Thumbs.db").touch()
    image(tmp_path / "__MACOSX" / "cat" / "0.png", 0)
    assert ImageFolder(tmp_path).classes == ["cat", "dog"]
    assert not recwarn.list
    os.mkfifo(tmp_path / "cat/1.png")
    with pytest.warns(UserWarning, match="1 FIFOs, devices or links that lead nowhere"):
        assert len(ImageFolder(tmp_path)) == 2
