"""Decoding JPEGs: one library or the other, whole or in part, at full size or less, gives the right pixels."""

from __future__ import annotations

import numpy as np
import pytest
import simplejpeg
from PIL import Image
from sklearn.datasets import load_sample_image

from cyclemlp.data import ImageFolder, build_loader, evaluation_transform, images, training_transform
from cyclemlp.data.images import EncodedImage, cut_jpeg, decode_image, to_channels
from cyclemlp.data.order import Draws
from cyclemlp.data.resampling import as_array
from cyclemlp.errors import DataError
from cyclemlp.preprocessing import Preprocessing

FORMS = {
    "420": {"subsampling": "4:2:0"},
    "422": {"subsampling": "4:2:2"},
    "444": {"subsampling": "4:4:4", "quality": 97},
    "progressive": {"progressive": True, "quality": 60},
    "restarts": {"restart_marker_rows": 1},
    "grey": {"mode": "L"},
    "440": {},  # in which versions of libjpeg differ
    "cmyk": {"mode": "CMYK"},
    "rgb": {"keep_rgb": True},
}
BY_SIMPLEJPEG = {"420", "422", "444", "progressive", "restarts", "grey"}


def photograph(size=(301, 203)):
    return Image.fromarray(load_sample_image("china.jpg")).resize(size)


@pytest.fixture(params=list(FORMS))
def jpeg(request, tmp_path):
    options = dict(FORMS[request.param])
    path = tmp_path / f"{request.param}.jpg"
    if request.param == "440":
        path.write_bytes(simplejpeg.encode_jpeg(np.asarray(photograph()), colorsubsampling="440"))
        return path
    photograph().convert(options.pop("mode", "RGB")).save(path, **options)
    return path


@pytest.fixture
def by_pillow(monkeypatch):
    """Call something without simplejpeg."""

    def call(function, *args):
        with monkeypatch.context() as patch:
            patch.setattr(images, "simplejpeg", None)
            return function(*args)

    return call


@pytest.mark.parametrize("scale", [1, 2, 4, 8])
def test_both_libraries_give_the_same_pixels(jpeg, by_pillow, scale):
    ours = EncodedImage(jpeg, "here")
    theirs = by_pillow(EncodedImage, jpeg, "here")
    assert (ours._opened is None) == (jpeg.stem in BY_SIMPLEJPEG)
    assert theirs._opened is not None
    assert ours.size == theirs.size == (301, 203)
    one, other = ours.decode(scale), theirs.decode(scale)
    assert one.mode == other.mode
    assert one.size == other.size == (-(-301 // scale), -(-203 // scale))
    assert np.array_equal(np.asarray(one), np.asarray(other))


def test_evaluation_has_the_same_bits_with_either(jpeg, by_pillow):
    for p in (Preprocessing(input_size=96), Preprocessing(input_size=96, mean=(0.5,), std=(0.5,))):
        transform = evaluation_transform(p)
        assert np.array_equal(
            transform(decode_image(jpeg, "here")), transform(by_pillow(decode_image, jpeg, "here"))
        )


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("box", [(0, 0, 301, 203), (17, 33, 205, 180), (300, 202, 301, 203)])
def test_a_part_is_the_whole_cropped(jpeg, by_pillow, box, channels):
    whole = as_array(to_channels(decode_image(jpeg, "here"), channels).crop(box))
    part = EncodedImage(jpeg, "here").part(box, channels)
    other = by_pillow(lambda: EncodedImage(jpeg, "here").part(box, channels))
    # Colours to grey: JPEG's own brightness or Pillow's of the RGB pixels, but not one here and the other there.
    assert part.dtype == np.uint8
    assert part.shape[2] == channels
    assert np.array_equal(part, whole)
    assert np.array_equal(other, whole)


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_a_part_at_a_scale_shows_the_same(jpeg, scale):
    box = (41, 30, 250, 190)
    part = EncodedImage(jpeg, "here").part(box, 3, scale)
    left, upper = 41 // scale, 30 // scale
    right, lower = -(-250 // scale), -(-190 // scale)
    assert part.shape == (lower - upper, right - left, 3)
    reduced = to_channels(decode_image(jpeg, "here"), 3).reduce(scale).crop((left, upper, right, lower))
    part, reduced = part.astype(int), np.asarray(reduced).astype(int)
    assert np.abs(part - reduced).mean() < 4
    assert np.abs(part[:, 1:] - reduced[:, :-1]).mean() > 3 * np.abs(part - reduced).mean()  # not a pixel off


def test_what_is_no_jpeg_has_no_scale(tmp_path):
    image = photograph()
    image.save(tmp_path / "a.png")
    file = EncodedImage(tmp_path / "a.png", "here")
    assert not file.is_jpeg
    assert np.array_equal(file.part((10, 20, 60, 90), 3, 8), np.asarray(image.crop((10, 20, 60, 90))))


def test_a_damaged_jpeg_is_pillows_to_judge(tmp_path, by_pillow):
    whole = tmp_path / "whole.jpg"
    photograph().save(whole)
    data = whole.read_bytes()
    for name, content in (("cut.jpg", data[:-900]), ("head.jpg", data[:40]), ("magic.jpg", data[:3])):
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(DataError, match=rf"list:3: .*{name}'") as ours:
            decode_image(path, "list:3")
        with pytest.raises(DataError) as theirs:
            by_pillow(decode_image, path, "list:3")
        assert str(ours.value).split(":")[:2] == str(theirs.value).split(":")[:2]
    (tmp_path / "more.jpg").write_bytes(data + b"what a camera puts behind the image")
    assert np.array_equal(
        np.asarray(decode_image(tmp_path / "more.jpg", "")), np.asarray(by_pillow(decode_image, whole, ""))
    )


@pytest.mark.parametrize("times", [1.5, 3])
def test_a_jpeg_of_too_many_pixels_is_an_error(tmp_path, monkeypatch, times):
    photograph().save(tmp_path / "bomb.jpg")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", int(301 * 203 / times))
    with pytest.raises(DataError, match=r"here: the image '.*bomb\.jpg' is too large .*decompression bomb"):
        decode_image(tmp_path / "bomb.jpg", "here")


# ---- in training


def test_training_from_a_file_is_training_from_the_image(jpeg):
    transform = training_transform(
        Preprocessing(input_size=112), auto_augment="rand-m9-mstd0.5-inc1", erasing_prob=0.25
    )
    image = decode_image(jpeg, "here")
    for seed in range(10):  # crops of less than twice the result's size: no scale
        expected = transform(image, np.random.default_rng(seed))
        assert np.array_equal(
            transform.finish.one(
                transform.begin_file(EncodedImage(jpeg, "here"), np.random.default_rng(seed))
            ),
            expected,
        )


@pytest.mark.parametrize("smaller", [0, 3])
def test_a_padded_crop_from_a_file_is_that_from_the_image(jpeg, smaller):
    """Of the input's size it is never made an image; of another it is."""
    image = decode_image(jpeg, "here")
    transform = training_transform(
        Preprocessing(input_size=(image.height - smaller, image.width)), padding=4, interpolation="random"
    )
    for seed in range(5):
        expected = transform(image, np.random.default_rng(seed))
        begun = transform.begin_file(EncodedImage(jpeg, "here"), np.random.default_rng(seed))
        assert np.array_equal(transform.finish.one(begun), expected)


def test_training_from_a_large_file_looks_the_same(jpeg):
    transform = training_transform(Preprocessing(input_size=24))
    image, scaled = decode_image(jpeg, "here"), 0
    for seed in range(10):
        expected = transform(image, np.random.default_rng(seed))
        begun = transform.begin_file(EncodedImage(jpeg, "here"), np.random.default_rng(seed))
        result = transform.finish.one(begun)
        assert result.shape == expected.shape == (3, 24, 24)
        assert (
            np.abs(result - expected).mean() < 0.15
        )  # standard deviations; the crop's edge is up to 4 pixels off
        scaled += not np.array_equal(result, expected)
    assert scaled > 5


def test_the_loader_trains_from_files(tmp_path):
    (tmp_path / "a").mkdir()
    for i in range(6):
        photograph((120 + 20 * i, 100)).save(tmp_path / "a" / f"{i}.jpg")
    transform = training_transform(Preprocessing(input_size=16), hflip=0.0)
    source = ImageFolder(tmp_path)
    batch = next(iter(build_loader(source, transform, batch_size=6)))
    draws = Draws(0)
    with_all = [transform(source[i].image, draws((0, i, 0))) for i in range(6)]
    assert batch.labels.tolist() == [0] * 6
    assert np.abs(batch.images - np.stack(with_all)).mean() < 0.2
    assert not np.array_equal(batch.images, np.stack(with_all))


def test_errors_of_files_name_the_image(tmp_path):
    (tmp_path / "a").mkdir()
    Image.fromarray(np.ones((9, 9), dtype=np.float32)).save(tmp_path / "a" / "f.tif")
    loader = build_loader(
        ImageFolder(tmp_path), training_transform(Preprocessing(input_size=8)), batch_size=1
    )
    with pytest.raises(DataError, match=r"f\.tif.*holds floating-point numbers"):
        list(loader)


# ---- cut off below the crop

CUT = BY_SIMPLEJPEG - {"progressive", "restarts"}


@pytest.mark.parametrize("scale", [1, 2, 4, 8])
def test_what_is_left_of_a_cut_jpeg_is_the_same_to_the_bit(jpeg, scale):
    content, whole = jpeg.read_bytes(), EncodedImage(jpeg, "here").decode(scale)
    if whole.mode == "CMYK":
        return  # Pillow's, and never cut
    whole, heights = as_array(whole), set()
    for rows in (*range(8, 34), *range(40, 204, 8), 201, 202, 203):
        lower = -(-rows // scale)
        part = EncodedImage(jpeg, "here").part((0, 0, 301, rows), whole.shape[2], scale)
        assert np.array_equal(part, whole[:lower])
        cut = cut_jpeg(content, rows)
        if cut is not None:
            assert rows < cut[1] <= min(rows + 16, 203)
            heights.add(cut[1])
    assert (jpeg.stem in CUT) <= (heights == set(range(16, 203, 16)))
    assert (jpeg.stem in ("progressive", "restarts")) <= (not heights)


def test_training_decodes_less_than_the_whole(tmp_path, monkeypatch):
    photograph().save(tmp_path / "a.jpg")
    decode, heights = simplejpeg.decode_jpeg, []

    def seen(*args, **options):
        heights.append(len(pixels := decode(*args, **options)))
        return pixels

    monkeypatch.setattr(simplejpeg, "decode_jpeg", seen)
    part = EncodedImage(tmp_path / "a.jpg", "here").part((30, 40, 130, 99), 3)
    assert heights == [112]
    EncodedImage(tmp_path / "a.jpg", "here").decode()
    assert heights == [112, 203]
    assert np.array_equal(part, np.asarray(decode_image(tmp_path / "a.jpg", "here"))[40:99, 30:130])


def test_of_a_file_cut_short_nothing_is_spared(tmp_path):
    photograph().save(tmp_path / "a.jpg")
    content = (tmp_path / "a.jpg").read_bytes()
    assert cut_jpeg(content, 50) is not None
    for end in (0, 3, 40, 300, len(content) - 1):
        assert cut_jpeg(content[:end], 50) is None
    (tmp_path / "a.jpg").write_bytes(content[:-900])
    with pytest.raises(DataError, match="truncated"):
        EncodedImage(tmp_path / "a.jpg", "here").part((0, 0, 50, 50), 3)


def test_damage_above_the_cut_is_decoded_as_pillow_does(tmp_path, by_pillow):
    photograph().save(tmp_path / "a.jpg")
    content = (tmp_path / "a.jpg").read_bytes()
    scan = content.index(b"\xff\xda") + 14
    decoded = 0
    for number in range(60):
        rng = np.random.default_rng(number)
        broken = bytearray(content)
        at = int(rng.integers(scan, len(content) - 2))
        broken[at : at + 4] = rng.integers(0, 255, 4, dtype=np.uint8).tobytes()[
            : max(0, len(content) - 2 - at)
        ]
        broken = bytes(broken[: len(content) - 2]) + b"\xff\xd9"
        (tmp_path / "b.jpg").write_bytes(broken)
        box = (0, 0, 301, 120)
        try:
            theirs = by_pillow(lambda box=box: EncodedImage(tmp_path / "b.jpg", "here").part(box, 3))
        except DataError:
            with pytest.raises(DataError, match="cannot be decoded"):
                EncodedImage(tmp_path / "b.jpg", "here").part(box, 3)
        else:
            decoded += cut_jpeg(broken, 120) is not None
            assert np.array_equal(EncodedImage(tmp_path / "b.jpg", "here").part(box, 3), theirs)
    assert decoded > 30
