"""Masks as people save them are read as classes, or refused with what to do; check and training alike."""

from __future__ import annotations

import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from seg_fixtures import config_values, write_data

from cyclemlp.dense.bases import shipped_folder
from cyclemlp.dense.seg.check import check
from cyclemlp.dense.seg.config import open_config
from cyclemlp.dense.seg.masks import LabelChecked, MaskError, check_labels, read_mask
from cyclemlp.dense.seg.training import train
from cyclemlp.errors import DataError
from cyclemlp.training.distributed import ALONE

CLASSES = np.zeros((12, 16), np.uint8)
CLASSES[3:9, 4:10] = 1


def saved(tmp_path, image, name="m.png", **options):
    image.save(tmp_path / name, **options)
    return tmp_path / name


def grey(values, dtype=np.uint8):
    return Image.fromarray(values.astype(dtype))


def palette(values):
    image = grey(values).convert("P")
    image.putdata(values.ravel().tolist())
    image.putpalette([0, 0, 0, 200, 30, 30])
    return image


READ = {
    "8 bits": (grey(CLASSES), "m.png"),
    "1 bit": (grey(255 * CLASSES).convert("1"), "m.png"),
    "16 bits": (grey(CLASSES, np.uint16), "m.png"),
    "16 bits, TIFF": (grey(CLASSES, np.uint16), "m.tif"),
    "32 bits": (grey(CLASSES, np.int32), "m.tif"),
    "palette": (palette(CLASSES), "m.png"),
    "TIFF": (grey(CLASSES), "m.tif"),
    "BMP": (grey(CLASSES), "m.bmp"),
    "equal colours": (grey(CLASSES).convert("RGB"), "m.png"),
    "grey and opaque": (grey(CLASSES).convert("LA"), "m.png"),
}


@pytest.mark.parametrize("kind", READ)
def test_what_can_be_read_is_read_as_classes(tmp_path, kind):
    found = read_mask(saved(tmp_path, *READ[kind]))
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, CLASSES)


def png(values, bits, kind=0):
    """The bytes of a PNG of `bits` a number; kind 0 is grey, 2 RGB."""
    rows = []
    for row in values:
        text = "".join(format(int(value), f"0{bits}b") for value in row.ravel())
        rows.append(b"\0" + int(text, 2).to_bytes(len(text) // 8, "big"))
    head = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], bits, kind, 0, 0, 0)
    parts = [(b"IHDR", head), (b"IDAT", zlib.compress(b"".join(rows))), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in parts
    )


@pytest.mark.parametrize("bits", [2, 4])
def test_few_bits_are_the_numbers_of_the_file_not_stretched(tmp_path, bits):
    """Pillow makes 0, 85, 170, 255 of two bits, and 0, 17, 34 … of four."""
    path = tmp_path / "m.png"
    path.write_bytes(png(3 * CLASSES, bits))
    assert np.asarray(Image.open(path)).max() > 3
    np.testing.assert_array_equal(read_mask(path), 3 * CLASSES)


@pytest.mark.parametrize(
    "data",
    [
        b"P5 4 1 3\n\0\1\2\3",
        b"P2 4 1 20\n0 1 2 3\n",
        b"P5 4 1 1000\n\0\0\0\1\0\2\0\3",
        b"P2 4 1 255\n0 1 2 3\n",
        b"P3 4 1 9\n0 0 0 1 1 1 2 2 2 3 3 3\n",
        b"P5 4 1 65535\n\0\0\0\1\0\2\0\3",
    ],
)
def test_pnm_of_any_largest_value(tmp_path, data):
    path = tmp_path / "m.pgm"
    path.write_bytes(data)
    np.testing.assert_array_equal(read_mask(path), [[0, 1, 2, 3]])


def test_numbers_that_pillow_changes_for_good_are_refused(tmp_path):
    path = tmp_path / "m.png"
    path.write_bytes(png(np.stack([CLASSES] * 3, -1), 16, 2))
    with pytest.raises(MaskError, match=r"m\.png has colours of 16 bits a channel, which are read as 8"):
        read_mask(path)
    path = saved(tmp_path, grey(CLASSES), "m.tif", tiffinfo={262: 0})
    with pytest.raises(MaskError, match=r"m\.tif is stored with 0 for white"):
        read_mask(path)
    for path in (
        saved(tmp_path, grey(CLASSES).convert("1"), "m.tif", tiffinfo={262: 0}),
        saved(tmp_path, grey(CLASSES).convert("1"), "m.pbm"),
    ):
        with pytest.raises(MaskError, match=r"m\.(tif|pbm) is stored with 0 for white"):
            read_mask(path)


COLOURS = Image.fromarray(np.stack([200 * CLASSES, 20 * CLASSES, 90 * CLASSES], -1))
TRANSPARENT = Image.merge("LA", (grey(CLASSES), grey(100 + CLASSES)))
REFUSED = {
    "colours": (COLOURS, "m.png", r"mode RGB, in the colours \(0, 0, 0\), \(200, 20, 90\), not a mask"),
    "transparent": (TRANSPARENT, "m.png", "mode LA"),
    "JPEG": (grey(CLASSES), "m.jpg", "is a JPEG, which may change the numbers"),
    "WebP": (grey(CLASSES).convert("RGB"), "m.webp", "is a WEBP, which may change the numbers"),
    "floats": (grey(CLASSES, np.float32), "m.tif", "mode F"),
    "large numbers": (grey(300 * CLASSES.astype(int), np.uint16), "m.png", "with numbers from 0 to 300"),
    "negative numbers": (grey(-1 * CLASSES.astype(int), np.int32), "m.tif", "with numbers from -1 to 0"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_read_is_refused_with_what_is_expected(tmp_path, kind):
    image, name, message = REFUSED[kind]
    path = saved(tmp_path, image, name)
    with pytest.raises(MaskError, match=message) as error:
        read_mask(path)
    assert str(path) in str(error.value)
    assert "expected an image of one number a pixel" in str(error.value)


def test_a_damaged_mask_and_one_of_several_images(tmp_path):
    path = saved(tmp_path, grey(CLASSES))
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(MaskError, match="cannot be read"):
        read_mask(path)
    many = saved(tmp_path, grey(CLASSES), "m.tif", save_all=True, append_images=[grey(CLASSES)])
    with pytest.raises(MaskError, match="has 2 images in it"):
        read_mask(many)


def test_labels_outside_the_classes(tmp_path):
    check_labels(np.array([[0, 1, 255]]), 2, 255, "m.png")
    with pytest.raises(MaskError, match=r"m.png has labels 7 \(2 pixels\); expected 0 to 1, or 255"):
        check_labels(np.array([[0, 7, 7]]), 2, 255, "m.png")
    path = str(saved(tmp_path, grey(9 * CLASSES)))
    transforms = LabelChecked(lambda data: data, 2, 255)
    with pytest.raises(MaskError, match=r"m\.png has labels 9"):
        transforms({"img": "x.png", "label": path})
    assert transforms({"img": "x.png"}) == {"img": "x.png"}  # of evaluation


@pytest.fixture
def config(tmp_path):
    data = write_data(tmp_path / "data")
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(config_values(data)))
    return path


def change_masks(config, change):
    for path in sorted((config.parent / "data/labels").glob("*.png")):
        Image.fromarray(change(np.array(Image.open(path)))).save(path)


def trained(config, output):
    output.mkdir()
    return train(open_config(config, {"iters": 1}), output, ALONE, show_progress=False, evaluate=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: np.where(m == 1, 255, 0).astype(np.uint8), "only class 0 .background. has pixels"),
        (lambda m: np.full_like(m, 255), "no class has pixels"),
        (lambda m: np.where(m == 1, 77, m).astype(np.uint8), r"has labels 77 \(324 pixels\)"),
        (lambda m: np.stack([m, m // 2, m], -1), "mode RGB"),
    ],
    ids=["0 and 255", "ignored", "no class", "colours"],
)
def test_check_and_training_refuse_the_same(config, tmp_path, change, message):
    change_masks(config, change)
    reports = check(open_config(config), show_progress=False)
    assert any(re.search(message, error) for error in reports[0].errors)
    with pytest.raises(DataError, match=message):
        trained(config, tmp_path / "run")


def test_16_bit_masks_train_like_8_bit_ones(config, tmp_path):
    losses = []
    for kind in (np.uint8, np.uint16):
        change_masks(config, lambda m, kind=kind: m.astype(kind))
        output = tmp_path / np.dtype(kind).name
        trained(config, output)
        losses.append([line for line in (output / "log.jsonl").read_text().splitlines() if '"loss"' in line])
    first, second = (yaml.safe_load(lines[0])["loss"] for lines in losses)
    assert first == second


ADE20K = [
    path for path in sorted(shipped_folder("seg").glob("*ade20k.yaml")) if not path.name.startswith("_")
]


def draw(path: Path, folder: Path, count: int) -> None:
    """Draw samples through a shipped configuration's own transforms: images and labels stay what they are."""
    import paddleseg.transforms
    from paddleseg.cvlibs import manager

    listed = open_config(path).dic["train_dataset"]["transforms"]
    made = [manager.TRANSFORMS[t["type"]](**{k: v for k, v in t.items() if k != "type"}) for t in listed]
    transforms = paddleseg.transforms.Compose(made)
    for number in range(count):
        data = {"img": str(folder / f"{number % 3}.jpg"), "label": str(folder / f"{number % 3}.png")}
        found = transforms({**data, "gt_fields": ["label"], "trans_info": []})
        assert found["img"].shape == (3, 512, 512)
        assert found["label"].shape == (512, 512)
        assert found["img"].dtype == np.float32
        assert len(np.unique(found["img"])) > 100, "the label is in the image's place"
        assert set(np.unique(found["label"])) <= {*range(1, 6), 255}


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ade20k")
    for number, (height, width) in enumerate(((560, 600), (300, 700), (512, 512))):
        pixels = np.random.default_rng(number).integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.jpg")
        mask = np.full((height, width), 3, np.uint8)  # one class fills nearly all
        mask[:40, :40] = 1 + number
        Image.fromarray(mask).save(folder / f"{number}.png")
    return folder


def test_there_are_configurations_of_ade20k():
    assert len(ADE20K) >= 15


@pytest.mark.parametrize("path", ADE20K, ids=lambda path: path.stem)
def test_every_ade20k_configuration_draws_samples(path, samples):
    draw(path, samples, 6)


@pytest.mark.heavy
@pytest.mark.parametrize("path", ADE20K, ids=lambda path: path.stem)
def test_every_ade20k_configuration_draws_two_hundred_samples(path, samples):
    draw(path, samples, 200)
