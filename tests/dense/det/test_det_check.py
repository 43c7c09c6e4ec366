"""The look through a data set: each fault is named with its place, and what is accepted can be trained on."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dense.det.small import BOXES, CONFIGS, MASKS, small_overrides
from PIL import Image
from pycocotools import mask as coco_mask

from cyclemlp.cli.main import main
from cyclemlp.dense.det.check import Report, check, require_usable
from cyclemlp.dense.det.configuration import Configuration
from cyclemlp.dense.det.samples import draw_samples
from cyclemlp.dense.det.shapes import run_lengths
from cyclemlp.errors import DataError

Change = Callable[[dict[str, Any]], object]
MASK_CONFIG = "scenes_mask_rcnn.yaml"


def configured(folder: Path, config_file: str = MASK_CONFIG, **more: Any) -> Configuration:
    small = MASKS if "mask" in config_file else BOXES
    return Configuration.load(CONFIGS / config_file, small_overrides(folder) | small | more)


def change_file(folder: Path, change: Change | None, part: str = "train") -> Path:
    path = folder / f"annotations/{part}.json"
    if change is not None:
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))
    return path


def checked(folder: Path, change: Change | None = None, config_file: str = MASK_CONFIG) -> Report:
    """What is said of the training set after `change` of its content."""
    change_file(folder, change)
    return check(configured(folder, config_file), ["TrainDataset"])[0]


@pytest.fixture
def copied(tiny: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny, tmp_path / "copied"))


def test_good_data_have_no_error(tiny: Path) -> None:
    train, evaluation = check(configured(tiny))
    assert train.errors == evaluation.errors == []
    assert (train.images, train.empty_images, sum(train.objects.values())) == (6, 1, 10)
    assert any("1 of 6 images has no object; it is left out" in text for text in train.warnings)
    assert any("1 of 6 images has no object; it is trained on" in text for text in evaluation.warnings)
    assert any("6 images are trained on too, such as" in text for text in evaluation.warnings)


def annotation(**values: Any) -> Change:
    return lambda c: c["annotations"][2].update(values)


def image(**values: Any) -> Change:
    return lambda c: c["images"][1].update(values)


def text_ids(content: dict[str, Any]) -> None:
    for entry in content["images"]:
        entry["id"] = f"image {entry['id']}"
    for entry in content["annotations"]:
        entry["image_id"] = f"image {entry['image_id']}"


def labels_from_zero(content: dict[str, Any]) -> None:
    for number, category in enumerate(content["categories"], start=1):
        for entry in content["annotations"]:
            if entry["category_id"] == category["id"]:
                entry["category_id"] = number - 1
        category["id"] = number


def relative(content: dict[str, Any]) -> None:
    for entry in content["annotations"]:
        entry["bbox"] = [v / 96 for v in entry["bbox"]]


#: Change, and what is said; where training would take it all the same, its word stands third.
FAULTS: list[tuple[Change, str, bool]] = [
    (image(file_name="none.png"), r"images\[1\]: .*none\.png does not exist", False),
    (image(file_name="a\\b.png"), r"images\[1\]: .* does not exist; it has backslashes", False),
    (image(file_name=5), r"images\[1\]: file_name is 5; expected a path in", False),
    (image(file_name="a\0b"), r"images\[1\]: file_name is .*expected a path", False),
    (image(file_name=""), r"images\[1\]: file_name is ''", False),
    (image(file_name="."), r"images\[1\]: .*images is a folder", False),
    (image(file_name="0.png"), r"images\[1\]: the file 0\.png is image 10 already", True),
    (image(width=0), r"images\[1\]: width and height are \(0, 64\)", False),
    (image(height="64"), r"images\[1\]: width and height are \(96, '64'\)", False),
    (image(width=float("nan")), r"images\[1\]: width and height are \(nan, 64\)", False),
    (image(width=90), r"images\[1\]: .*1\.png is 96×64 pixels, and the file says 90×64", False),
    (image(width=64, height=96), r"96×64 pixels \(turned as its EXIF data say\), and", False),
    (image(id=10), r"images\[1\]: another image has the id 10 too", False),
    (image(id=1.5), r"images\[1\]: id is 1\.5; PaddleDetection needs a whole number", False),
    (image(id=2**63), r"images\[1\]: id is 9223372036854775808; .*whole number", False),
    (image(id=[1]), r"images\[1\]: id is \[1\]; .*whole number", False),
    (text_ids, r"images\[0\]: id is 'image 10'; PaddleDetection needs a whole number", False),
    (lambda c: c["images"][1].pop("width"), r"images\[1\]: has no width", False),
    (lambda c: c["images"].append("a"), r"images\[6\]: is 'a'; expected an object with id, file_name", False),
    (annotation(bbox=[1, 2, 0, 5]), r"annotations\[2\] \(id 3, image 11\): .*no area", True),
    (annotation(bbox=[50, 2, 60, 5]), r"lies partly outside of the image, 96×64", True),
    (annotation(bbox=[200, 2, 60, 5]), r"lies outside of the image", False),
    (annotation(bbox=[1, 2]), r"its bbox is \[1, 2\]", False),
    (annotation(bbox=[1, 2, 3, float("nan")]), r"its bbox is \[1, 2, 3, nan\]", False),
    (annotation(bbox=[1, 2, 3, "4"]), r"its bbox is \[1, 2, 3, '4'\]", False),
    (annotation(bbox=None), r"its bbox is None", False),
    (relative, r"no box is larger than one pixel: its coordinates look relative", False),
    (annotation(category_id=99), r"there is no category 99; the file has \[3, 7, 11\]", False),
    (annotation(category_id="3"), r"category_id is '3'; .*whole number", False),
    (annotation(image_id=99), r"there is no image 99", False),
    (labels_from_zero, r"category_id go from 0 to 2, the categories' id from 1 to 3", False),
    (annotation(id=1), r"annotations\[2\] \(id 1, image 11\): the id 1 is there twice", False),
    (annotation(id=None), r"annotations\[2\]: id is None", False),
    (annotation(area=0), r"its area is 0", True),
    (annotation(area="5"), r"its area is '5'", False),
    (annotation(iscrowd=2), r"iscrowd is 2; expected 0 or 1", False),
    (lambda c: c["annotations"][2].pop("iscrowd"), r"has no iscrowd \(0 for an object", False),
    (lambda c: c["annotations"][2].pop("segmentation"), r"it has no segmentation", False),
    (annotation(segmentation=[[1, 2, 3, 4]]), r"has 4 numbers; three points are 6", False),
    (annotation(segmentation=[[1, 2, 3, 4, 5, 6, 7]]), r"has 7 numbers", False),
    (annotation(segmentation=[[1, 2, 3, 4, 5, float("inf")]]), r"no list of polygons", False),
    (annotation(segmentation=[1, 2, 3, 4, 5, 6]), r"no list of polygons", False),
    (annotation(segmentation=[[100, 2, 110, 4, 105, 6]]), r"polygon .* lies outside of the image", False),
    (annotation(segmentation=[[]]), r"a list of empty polygons", False),
    (annotation(segmentation={"size": [64, 96], "counts": [5, 5]}), r"run lengths .* do not add up", False),
    (annotation(segmentation={"size": [64, 96], "counts": [-5, 6149]}), r"do not add up", False),
    (
        annotation(segmentation={"size": [64, 96], "counts": "PPPPa"}),
        r"no run lengths: counts is 'PPPPa'",
        False,
    ),
    (annotation(segmentation={"size": [64, 96], "counts": 5}), r"no run lengths: counts is 5", False),
    (annotation(segmentation={"size": [96, 64], "counts": "a"}), r"of the image is \[64, 96\]", False),
    (annotation(segmentation={"counts": "a"}), r"size is None; expected \[height, width\]", False),
    (annotation(iscrowd=1, segmentation={"size": [64, 96], "counts": [1]}), r"do not add up", False),
    (lambda c: c["categories"].pop(), r"has 2 categories \(red, green\), and num_classes of .* is 3", False),
    (
        lambda c: c["categories"][1].update(name="red"),
        r"categories\[1\]: the name 'red' is there twice",
        False,
    ),
    (lambda c: c["categories"][1].update(name=""), r"categories\[1\]: its name is ''", False),
    (lambda c: c["categories"][1].update(id=3), r"categories\[1\]: id 3 was 'red' already", False),
    (lambda c: c.pop("annotations"), r"has no list 'annotations'", False),
    (lambda c: c.update(images={}), r"has no list 'images'", False),
    (lambda c: c["annotations"].clear(), r"none of its 6 images has an object", False),
    (lambda c: [a.update(iscrowd=1) for a in c["annotations"]], r"none of its 6 images has an object", False),
]


@pytest.mark.parametrize(("change", "says", "tolerable"), FAULTS, ids=[says for _, says, _ in FAULTS])
def test_each_fault_is_named_with_file_and_entry(
    copied: Path, change: Change, says: str, tolerable: bool
) -> None:
    report = checked(copied, change)
    assert any(re.search(says, error) for error in report.errors), report.errors
    assert all(error.startswith(str(copied / "annotations/train.json")) for error in report.errors)
    assert all(error.isprintable() for error in report.errors)
    said: list[str] = []
    if tolerable:
        require_usable(configured(copied), ["TrainDataset"], say=said.append)
        assert re.search(f"faults? that (is|are) lived with.*{says}", said[0])
    else:
        with pytest.raises(DataError, match=says):
            require_usable(configured(copied), ["TrainDataset"], say=said.append)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"\xef\xbb\xbf{}", "begins with a byte order mark"),
        ('{"images": "\u00e9"}'.encode("latin-1"), "not UTF-8 at byte 12"),
        (b"", "not JSON"),
        (b'{"images": [', "not JSON"),
        (b"[]", "holds a list"),
        (b"[" * 100_000, "nested so deep"),
        (b'{"images": ' + b"9" * 10_000 + b"}", "not JSON"),
    ],
)
def test_files_that_are_no_coco_files_are_reported(copied: Path, content: bytes, says: str) -> None:
    path = copied / "annotations/train.json"
    path.write_bytes(content)
    (error,) = checked(copied).errors
    assert error.startswith(str(path))
    assert says in error


def test_files_that_are_not_there_are_reported(copied: Path) -> None:
    path = copied / "annotations/train.json"
    path.unlink()
    assert f"there is no file {path}" in checked(copied).errors[0]
    os.mkfifo(path)
    assert "there is no file" in checked(copied).errors[0]


def test_boxes_alone_need_no_masks(copied: Path) -> None:
    without = checked(copied, lambda c: [a.pop("segmentation") for a in c["annotations"]], "scenes.yaml")
    assert without.errors == []


def test_images_are_decoded_as_the_engine_does(copied: Path) -> None:
    path = copied / "images/2.png"
    whole = path.read_bytes()
    path.write_bytes(whole[:2000])
    (error,) = checked(copied).errors
    assert re.search(r"images\[2\]: the image .*2\.png' cannot be decoded", error)
    assert check(configured(copied), ["TrainDataset"], pixels=False)[0].errors == []
    path.unlink()
    os.mkfifo(path)
    (error,) = checked(copied).errors
    assert re.search(r"images\[2\]: .*2\.png is no regular file", error)
    path.unlink()
    Image.new("RGB", (90, 64)).save(path)
    (error,) = checked(copied).errors
    assert re.search(r"2\.png is 90×64 pixels, and the file says 96×64", error)
    Image.new("CMYK", (96, 64)).save(path, "TIFF", compression="jpeg")
    assert checked(copied).errors == []
    Image.new("F", (96, 64)).save(path, "TIFF")
    (error,) = checked(copied).errors
    assert re.search(r"2\.png: holds floating-point numbers", error)


def test_categories_in_another_order_are_an_error(copied: Path) -> None:
    change_file(copied, lambda c: c["categories"].reverse(), "val")
    (error,) = check(configured(copied))[1].errors
    assert re.search(
        r"val\.json: categories\[0\]: .*differ in order, first \(11, 'blue'\) for \(3, 'red'\)", error
    )
    with pytest.raises(DataError, match="in the same order"):
        require_usable(configured(copied), ["TrainDataset", "EvalDataset"], say=print)
    change_file(copied, lambda c: c["categories"][0].update(name="purple"), "val")
    assert "differ in ids and names" in check(configured(copied))[1].errors[0]


def test_crowds_and_ignored_objects_are_no_objects_to_train_on(copied: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        whole = {"size": [64, 96], "counts": [0, 64 * 96]}
        content["annotations"][0].update(iscrowd=1, bbox=[0, 0, 0, 0], segmentation=whole)
        content["annotations"][1].update(ignore=1)

    report = checked(copied, change)
    assert report.errors == []
    assert (report.crowds, sum(report.objects.values()), report.empty_images) == (1, 8, 2)


def test_a_class_for_the_background_is_remarked_on(copied: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        content["categories"].insert(0, {"id": 0, "name": "Background"})

    change_file(copied, change)
    (report,) = check(configured(copied, num_classes=4), ["TrainDataset"])
    assert report.errors == []
    assert any(
        "'Background' has no object; PaddleDetection needs no class" in text for text in report.warnings
    )


def test_run_lengths_are_those_of_coco_s_own_program() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        mask = np.asfortranarray(rng.random((37, 23)) < rng.random(), np.uint8)
        text = coco_mask.encode(mask)["counts"].decode()
        counts = run_lengths(text)
        assert counts is not None
        assert sum(counts) == mask.size
        assert sum(counts[1::2]) == mask.sum()
        again = coco_mask.frPyObjects({"size": [37, 23], "counts": counts}, 37, 23)
        assert again["counts"].decode() == text
    assert run_lengths("o") is None  # says that another character follows
    assert run_lengths(" ") is None


def test_samples_are_drawn_with_their_objects(copied: Path, tmp_path: Path) -> None:
    output = tmp_path / "drawn"
    output.mkdir()
    drawn = draw_samples(configured(copied), 3, output)
    assert len(drawn) == 6
    assert [p.name for p in drawn[:3]] == [f"TrainDataset_000{i}_{n}.png" for i, n in enumerate((0, 1, 3))]
    with Image.open(drawn[0]) as opened:
        pixels = np.asarray(opened)
    with Image.open(copied / "images/0.png") as opened:
        plain = np.asarray(opened.resize((480, 320), Image.Resampling.BICUBIC))
    changed = (pixels != plain).any(axis=-1)
    box = json.loads((copied / "annotations/train.json").read_text())["annotations"][0]["bbox"]
    x, y, w, h = (5 * v for v in box)
    assert changed[y + h // 2, x : x + 3].all()  # the box's left edge
    assert changed[y + 2 : y + h - 2, x + 2 : x + w - 2].mean() > 0.9  # its mask


# ---- the command


def command(folder: Path, *more: str) -> int:
    sets = [f"--set={key}={json.dumps(value)}" for key, value in (small_overrides(folder) | BOXES).items()]
    return main(["det", "check", "--config", str(CONFIGS / "scenes.yaml"), "--no-progress", *sets, *more])


def test_exit_code_tells_whether_the_data_are_good(
    copied: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    output = tmp_path / "drawn"
    assert command(copied, "--sample", "2", "--output", str(output)) == 0
    assert len(list(output.iterdir())) == 4
    assert "no errors" in capsys.readouterr().out
    change_file(copied, annotation(category_id=99))
    shutil.rmtree(output)
    assert command(copied, "--sample", "2", "--output", str(output), "--quick") == 1
    assert "no sample was drawn" in capsys.readouterr().err
    assert not output.exists()
    assert command(copied, "--json") == 1
    train, evaluation = json.loads(capsys.readouterr().out)
    assert "there is no category 99" in train["errors"][0]
    assert (evaluation["images"], evaluation["errors"]) == (6, [])
    (copied / "annotations/val.json").unlink()
    assert command(copied, "--json") == 1
    assert "there is no file" in json.loads(capsys.readouterr().out)[1]["errors"][0]
