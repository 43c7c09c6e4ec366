"""Scenes: what the files say is what the images show, in both formats, the same for the same seed."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_masks
from pycocotools.coco import COCO

from cyclemlp.data import Digits, SceneOptions, Scenes, write_scenes
from cyclemlp.data.scenes import LEAST_VISIBLE, encode_rle
from cyclemlp.errors import ConfigError

OPTIONS = SceneOptions(width=160, height=120, objects=(3, 8), sizes=(12, 70), seed=3)
COUNTS = {"train": 14, "val": 6}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A small data set's folder, and what `write_scenes` said of it."""
    folder = tmp_path_factory.mktemp("data") / "new" / "scenes"
    return folder, write_scenes(folder, OPTIONS, **COUNTS, show_progress=False)


@pytest.fixture(scope="module", params=["train", "val"])
def split(request, written):
    """Folder, split, and the split's annotations as pycocotools reads them."""
    folder = written[0]
    return folder, request.param, COCO(folder / "annotations" / f"instances_{request.param}.json")


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def objects_of(coco):
    return [(annotation, coco.annToMask(annotation).astype(bool)) for annotation in coco.anns.values()]


def test_counts_and_files(split, written):
    folder, name, coco = split
    lines = [line.split() for line in (folder / f"{name}.txt").read_text().splitlines()]
    assert len(lines) == len(coco.imgs) == COUNTS[name]
    for (name_of, label), info in zip(lines, coco.imgs.values(), strict=True):
        assert name_of == f"images/{info['file_name']}"
        with Image.open(folder / name_of) as image, Image.open(folder / label) as mask:
            assert image.size == mask.size == (info["width"], info["height"]) == (160, 120)
            assert (image.mode, mask.mode) == ("RGB", "P")
        assert 3 <= len(coco.getAnnIds(imgIds=info["id"])) <= 8
    names = {category["id"]: category["name"] for category in coco.cats.values()}
    assert (folder / "classes.txt").read_text() == "".join(
        f"{value} {word}\n" for value, word in ({0: "background"} | names).items()
    )
    counted = Counter(names[annotation["category_id"]] for annotation in coco.anns.values())
    assert counted == +written[1][name]
    assert sorted(written[1][name]) == sorted(names.values())


def test_boxes_are_tight_and_areas_counted(split):
    for annotation, mask in objects_of(split[2]):
        rows, columns = np.nonzero(mask)
        x, y, w, h = annotation["bbox"]
        assert (x, y) == (columns.min(), rows.min())
        assert (x + w, y + h) == (columns.max() + 1, rows.max() + 1)
        assert annotation["area"] == mask.sum() > 0
        assert annotation["iscrowd"] == 0
        assert 12 <= annotation["size"] <= 70
        assert max(w, h) <= annotation["size"]
        assert LEAST_VISIBLE <= annotation["visible"] <= 1
        if annotation["visible"] == 1:
            assert max(w, h) == annotation["size"]


def test_training_scenes_may_hold_more_than_validation_scenes(written, tmp_path):
    write_scenes(tmp_path / "more", OPTIONS, train=4, val=6, train_objects=(9, 12), show_progress=False)
    train, val = (COCO(tmp_path / "more/annotations" / f"instances_{s}.json") for s in ("train", "val"))
    assert all(9 <= len(train.getAnnIds(imgIds=image)) <= 12 for image in train.imgs)
    assert val.dataset == COCO(written[0] / "annotations/instances_val.json").dataset
    with pytest.raises(ConfigError, match="--train-objects: 5-2"):
        write_scenes(tmp_path / "none", OPTIONS, train=1, val=1, train_objects=(5, 2))


def test_objects_hide_parts_of_others(written):
    coco = COCO(written[0] / "annotations" / "instances_train.json")
    shares = [annotation["visible"] for annotation in coco.anns.values()]
    assert 0.1 < np.mean(np.array(shares) < 1) < 0.9


def test_the_mask_is_all_objects_and_none_lies_on_another(split):
    folder, _, coco = split
    for info in coco.imgs.values():
        expected = np.zeros((120, 160), dtype=int)
        for annotation in coco.loadAnns(coco.getAnnIds(imgIds=info["id"])):
            mask = coco.annToMask(annotation).astype(bool)
            assert not expected[mask].any()
            expected[mask] = annotation["category_id"]
        label = Image.open(folder / "labels" / info["file_name"].replace(".jpg", ".png"))
        assert np.array_equal(np.asarray(label), expected)


def test_the_images_show_the_objects(split):
    """A digit differs in brightness from what surrounds it: the mask lies where the digit is."""
    folder, _, coco = split
    clear = []
    for annotation, mask in objects_of(coco):
        if annotation["visible"] < 1:
            continue
        file = folder / "images" / coco.imgs[annotation["image_id"]]["file_name"]
        grey = np.asarray(Image.open(file).convert("L"), dtype=float)
        x, y, w, h = annotation["bbox"]
        part = np.s_[max(y - 2, 0) : y + h + 2, max(x - 2, 0) : x + w + 2]
        clear.append(abs(grey[mask].mean() - grey[part][~mask[part]].mean()))
    assert np.mean(np.array(clear) > 15) > 0.8


def test_validation_scenes_hold_no_scan_of_training(written):
    scans = {}
    for name in COUNTS:
        digits = Digits(name)
        labels = {digits.name(i): digits.label(i) for i in range(len(digits))}
        coco = COCO(written[0] / "annotations" / f"instances_{name}.json")
        for annotation in coco.anns.values():
            assert labels[annotation["scan"]] == annotation["category_id"] - 1
        scans[name] = {annotation["scan"] for annotation in coco.anns.values()}
    assert not scans["train"] & scans["val"]


def test_same_seed_same_bytes_and_other_seed_others(written, tmp_path):
    write_scenes(tmp_path / "again", OPTIONS, **COUNTS, show_progress=False)
    assert contents(tmp_path / "again") == contents(written[0])
    one, other = (
        Scenes(OPTIONS, "train")[0],
        Scenes(SceneOptions(160, 120, sizes=(12, 70), seed=4), "train")[0],
    )
    assert np.array_equal(one.image, Scenes(OPTIONS, "train")[0].image)
    assert not np.array_equal(one.image, other.image)
    assert not np.array_equal(one.image, Scenes(OPTIONS, "val")[0].image)


def test_chosen_digits_are_numbered_from_1():
    scenes = Scenes(SceneOptions(digits=(7, 3), objects=(20, 20), sizes=(8, 40)), "val")
    names = {"seven": 1, "three": 2}
    assert scenes.options.classes == ["background", *names]
    digits = Digits("val")
    labels = {digits.name(i): digits.label(i) for i in range(len(digits))}
    objects = scenes[0].objects
    assert len(objects) == 20
    assert {(labels[one.scan], one.label) for one in objects} == {(7, 1), (3, 2)}
    assert set(np.unique(scenes[0].mask)) == {0, 1, 2}


def test_paddleseg_reads_it(written):
    from paddleseg.datasets import Dataset

    dataset = Dataset(
        mode="val",
        dataset_root=str(written[0]),
        val_path=str(written[0] / "val.txt"),
        num_classes=11,
        transforms=[],
    )
    assert len(dataset) == COUNTS["val"]
    values = set()
    for item in dataset:
        assert item["img"].shape == (3, 120, 160)
        assert item["label"].shape == (1, 120, 160)
        values |= set(np.unique(item["label"]).tolist())
    assert values <= set(range(11))
    assert len(values) > 5


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_run_lengths_are_cocos(value):
    rng = np.random.default_rng(0)
    for shape in ((1, 1), (7, 5), (30, 40)):
        mask = rng.random(shape) < value
        rle = encode_rle(mask)
        decoded = coco_masks.decode(coco_masks.frPyObjects(rle, *shape))
        assert np.array_equal(decoded.astype(bool), mask)
        assert json.loads(json.dumps(rle)) == rle


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"digits": ()}, "--digits"),
        ({"digits": (1, 1)}, "--digits"),
        ({"digits": (1, 10)}, r"--digits: \[1, 10\]; give some of 0 to 9"),
        ({"objects": (0, 3)}, "--objects: 0-3"),
        ({"objects": (5, 3)}, "--objects: 5-3"),
        ({"sizes": (7, 30)}, "--min-size 7"),
        ({"sizes": (40, 30)}, "--min-size 40, --max-size 30"),
        ({"sizes": (12, 241)}, "<= 240, the shorter side of a scene of 320x240"),
        ({"seed": -1}, "--seed is -1"),
    ],
)
def test_impossible_options_are_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        SceneOptions(**change)


def test_too_many_objects_are_refused_and_leave_nothing(tmp_path):
    crowded = SceneOptions(64, 64, objects=(40, 40), sizes=(50, 60))
    with pytest.raises(ConfigError, match=r"only \d+ digits of 50 to 60 pixels went into a scene of 64x64"):
        write_scenes(tmp_path / "scenes", crowded, train=2, val=1, show_progress=False)
    assert not list(tmp_path.iterdir())


def test_what_is_there_is_not_replaced_unless_it_is_scenes(tmp_path):
    small = SceneOptions(48, 48, objects=(1, 2), sizes=(12, 20))

    def write(folder, seed=0, force=False):
        options = SceneOptions(48, 48, objects=(1, 2), sizes=small.sizes, seed=seed)
        write_scenes(folder, options, train=2, val=1, force=force, show_progress=False)
        return contents(folder)

    scenes, own, file = tmp_path / "scenes", tmp_path / "own", tmp_path / "file"
    scenes.mkdir()
    first = write(scenes)  # an empty folder is none
    with pytest.raises(ConfigError, match="is not empty; choose another --output, or --force"):
        write(scenes, seed=1)
    assert contents(scenes) == first
    assert write(scenes, seed=1, force=True) != first

    (scenes / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"holds notes\.txt that `cyclemlp data scenes` did not write"):
        write(scenes, force=True)
    (own / "images").mkdir(parents=True)  # named as ours, but somebody's
    with pytest.raises(ConfigError, match="holds a data set that"):
        write(own, force=True)
    file.touch()
    with pytest.raises(ConfigError, match="is a file"):
        write(file, force=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "own", "scenes"]
