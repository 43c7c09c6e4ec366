"""The check of the data: each mistake is found, with its file and line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from seg_fixtures import config_values, write_config, write_data

from cyclemlp.dense.seg.check import PartReport, check
from cyclemlp.dense.seg.config import open_config
from cyclemlp.errors import ConfigError


def check_data(data: Path) -> list[PartReport]:
    config = open_config(write_config(data / "config.yaml", config_values(data)))
    return check(config, show_progress=False)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_data(tmp_path / "data")


def test_good_data_are_counted(data: Path) -> None:
    train, val = check_data(data)
    assert train.errors == val.errors == []
    assert train.images == 4
    masks = [np.asarray(Image.open(data / f"labels/{i}.png")) for i in range(4)]
    assert list(train.class_pixels) == [sum(int((m == k).sum()) for m in masks) for k in range(3)]
    assert list(train.class_images) == [4, 4, 4]
    assert train.ignored_pixels == sum(int((m == 255).sum()) for m in masks)
    assert train.sizes == {(64, 48): 4}
    assert val.warnings == [
        f"4 images are trained on too, such as {data}/images/0.png: the evaluation will flatter"
    ]


def test_every_mistake_is_named_with_its_line(data: Path) -> None:
    (data / "images/bad.jpg").write_bytes((data / "images/0.png").read_bytes()[:300])
    Image.new("L", (64, 40)).save(data / "labels/small.png")
    Image.new("RGB", (64, 48), (9, 0, 0)).save(data / "labels/colour.png")
    Image.fromarray(np.full((48, 64), 7, np.uint8)).save(data / "labels/seven.png")
    Image.fromarray(np.full((48, 64), 255, np.uint8)).save(data / "labels/none.png")
    (data / "train.txt").write_text(
        "images/0.png labels/0.png\n"
        "images/gone.png labels/gone.png\n"
        "images/bad.jpg labels/0.png\n"
        "images/1.png labels/small.png\n"
        "images/1.png labels/colour.png\n"
        "images/2.png labels/seven.png\n"
        "\n"
        "images/my image.png labels/0.png\n"
        "images/3.png\n"
        "images/3.png labels/none.png\n"
        "images/0.png labels/0.png\n"
    )
    train, _ = check_data(data)
    found = "\n".join(train.errors)
    source = data / "train.txt"
    for line, words in (
        (2, f"{data}/images/gone.png does not exist"),
        (2, f"{data}/labels/gone.png does not exist"),
        (3, f"the image '{data}/images/bad.jpg' cannot be decoded"),
        (4, f"{data}/images/1.png is 64×48 pixels (width×height), its mask {data}/labels/small.png 64×40"),
        (5, f"{data}/labels/colour.png is an image of mode RGB, in the colours"),
        (6, f"{data}/labels/seven.png has labels 7 (3,072 pixels); expected 0 to 2, or 255"),
        (7, "is blank"),
        (8, "'images/my image.png labels/0.png' has 3 parts; expected `image mask`; are there spaces"),
        (9, "'images/3.png' has 1 part"),
    ):
        assert f"{source}:{line}: {words}" in found
    assert len(train.errors) == 9
    assert f"{source}:10: {data}/labels/none.png has no pixel that counts" in train.warnings
    assert f"{source}:11: {data}/images/0.png was named before" in train.warnings
    assert train.images == 3


def test_classes_without_a_pixel_are_warned_of(data: Path) -> None:
    for i in range(4):
        Image.new("L", (64, 48)).save(data / f"labels/{i}.png")
    train, _ = check_data(data)
    assert train.warnings == [f"{data}/train.txt: no image has a pixel of square, bar"]


def test_a_turned_photograph_is_compared_as_the_engine_turns_it(data: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    with Image.open(data / "images/0.png") as image:
        image.save(data / "images/0.jpg", exif=exif)
    (data / "train.txt").write_text("images/0.jpg labels/0.png\n")
    train, _ = check_data(data)
    assert len(train.errors) == 1
    assert "is 48×64 pixels (width×height)" in train.errors[0]


def test_ade20k_s_labels_count_from_one(data: Path, tmp_path: Path) -> None:
    root = tmp_path / "ADE"
    for part in ("training", "validation"):
        for kind in ("images", "annotations"):
            (root / kind / part).mkdir(parents=True)
        Image.new("RGB", (64, 48)).save(root / f"images/{part}/a.jpg")
        labels = np.zeros((48, 64), np.uint8)
        labels[0], labels[1] = 150, 1
        Image.fromarray(labels).save(root / f"annotations/{part}/a.png")
    config = Path(__file__).parents[3] / "configs/seg/semantic_fpn_cyclemlp_b1_ade20k.yaml"
    train, _ = check(open_config(config, data=str(root)), show_progress=False)
    assert train.errors == []
    assert (train.class_pixels[149], train.class_pixels[0]) == (64, 64)
    assert train.ignored_pixels == 46 * 64


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("images/0.png labels/0.png\n".encode("utf-16"), "is UTF-16; save it as UTF-8"),
        (b"images/0.png\0 labels/0.png\n", "holds a zero byte"),
        (b"\xef\xbb\xbfimages/0.png labels/0.png\n", "begins with a byte order mark"),
        (b"x" * 3_000_000 + b" labels/0.png\n", "train.txt:1: has 3,000,013 characters"),
        (b"images labels/0.png\n", "images is a folder"),
        (b"", "is empty"),
    ],
    ids=["UTF-16", "zero byte", "byte order mark", "long line", "folder", "empty"],
)
def test_odd_lists_are_reported(data: Path, content: bytes, message: str) -> None:
    (data / "train.txt").write_bytes(content)
    train, _ = check_data(data)
    assert any(message in error for error in train.errors), train.errors
    assert all(len(error) < 500 for error in train.errors)


@pytest.mark.parametrize("count", ["two", 0, -1, 2.5, True])
def test_a_number_of_classes_that_is_none(data: Path, tmp_path: Path, count: object) -> None:
    values = config_values(data)
    for part in ("model", "train_dataset", "val_dataset"):
        values[part]["num_classes"] = count
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(ConfigError, match="num_classes"):
        open_config(tmp_path / "c.yaml").num_classes  # noqa: B018
