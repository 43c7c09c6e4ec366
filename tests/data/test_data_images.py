"""Opening images of every mode, and refusing what is no image."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from PIL import Image

from cyclemlp.data.images import decode_image, to_channels
from cyclemlp.errors import ConfigError, DataError


def gradient(mode="RGB", size=(16, 9)):
    x, y = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    return Image.fromarray(np.stack([x * 15, y * 20, x + y], axis=-1).astype(np.uint8)).convert(mode)


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "LA", "1", "CMYK"])
def test_every_mode_becomes_rgb_and_grey(mode, tmp_path):
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    gradient(mode).save(path)
    image = decode_image(path, "here")
    assert image.mode == mode
    for channels, wanted in ((3, "RGB"), (1, "L")):
        converted = to_channels(image, channels)
        assert (converted.mode, converted.size) == (wanted, (16, 9))
        assert np.array_equal(np.asarray(converted), np.asarray(gradient(mode).convert(wanted)))


def test_palette_with_transparency_gives_its_colours_without_a_warning(tmp_path):
    image = gradient("P")
    image.save(tmp_path / "a.png", transparency=bytes([0, 128] * 8))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        converted = to_channels(decode_image(tmp_path / "a.png", "here"), 3)
    assert np.array_equal(np.asarray(converted), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("suffix", [".png", ".tif", ".pgm"])
def test_16_bit_grey_keeps_its_upper_bits(suffix, tmp_path):
    values = (np.arange(40, dtype=np.uint16) * 1638).reshape(5, 8)
    Image.fromarray(values).save(tmp_path / f"a{suffix}")
    image = decode_image(tmp_path / f"a{suffix}", "here")
    assert np.array_equal(np.asarray(to_channels(image, 1)), values >> 8)
    assert np.array_equal(np.asarray(to_channels(image, 3))[..., 2], values >> 8)


def test_numbers_of_unknown_range_are_refused():
    with pytest.raises(DataError, match="floating-point numbers of unknown range"):
        to_channels(Image.fromarray(np.ones((3, 3), dtype=np.float32)), 3)
    with pytest.raises(DataError, match="32-bit numbers from 0 to 70000"):
        to_channels(Image.fromarray(np.array([[0, 70000]], dtype=np.int32)), 1)
    with pytest.raises(ConfigError, match="not 4"):
        to_channels(gradient(), 4)


def test_exif_rotation_is_not_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90°
    gradient().save(tmp_path / "a.jpg", exif=exif)
    assert decode_image(tmp_path / "a.jpg", "here").size == (16, 9)


def test_truncated_and_false_images_name_place_and_file(tmp_path):
    whole = tmp_path / "whole.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(whole)
    cut = tmp_path / "cut.jpg"
    cut.write_bytes(whole.read_bytes()[:-600])
    with pytest.raises(
        DataError, match=r"list\.txt:7: the image '.*cut\.jpg' cannot be decoded: .*truncated"
    ):
        decode_image(cut, "list.txt:7")
    (tmp_path / "text.jpg").write_text("no image")
    with pytest.raises(DataError, match=r"list\.txt:8: '.*text\.jpg' is not an image that can be read"):
        decode_image(tmp_path / "text.jpg", "list.txt:8")
    (tmp_path / "empty.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"list\.txt:9"):
        decode_image(tmp_path / "empty.png", "list.txt:9")
    with pytest.raises(DataError, match="does not exist"):
        decode_image(tmp_path / "none.png", "list.txt:10")


@pytest.mark.parametrize("times", [1.5, 3])  # Pillow warns above its limit, and raises above twice its limit
def test_decompression_bomb_is_an_error(times, tmp_path, monkeypatch):
    gradient(size=(60, 50)).save(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", int(3000 / times))
    with pytest.raises(
        DataError, match=r"list\.txt:3: the image '.*bomb\.png' is too large .*decompression bomb"
    ):
        decode_image(tmp_path / "bomb.png", "list.txt:3")
