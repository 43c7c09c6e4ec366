"""Which formats of images are read, wherever one is decoded, and how their modes and orientations are."""

import ast
import io
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

import cyclemlp
from cyclemlp.data.images import FORMATS, EncodedImage, decode_image, pil_open, to_channels, upright
from cyclemlp.data.transforms import EvaluationTransform, TrainingTransform
from cyclemlp.errors import DataError
from cyclemlp.preprocessing import Preprocessing

PACKAGE = Path(cyclemlp.__file__).parent
HEIC = (
    Path(__file__).parents[1] / "fixtures/data/quarters.heic"
)  # 40×24: red and green at the left, blue at the right
POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 20 20\n\n0 0 moveto 20 20 lineto\nstroke\n%%EOF\n"


def halves(size=(40, 24)):
    """Red at the left, blue at the right."""
    pixels = np.zeros((size[1], size[0], 3), dtype=np.uint8)
    pixels[:, : size[0] // 2], pixels[:, size[0] // 2 :] = (200, 30, 30), (30, 60, 200)
    return Image.fromarray(pixels)


def test_every_image_is_opened_with_the_list_of_formats():
    """`Image.open` without formats would start Ghostscript for PostScript; OpenCV's formats are its own."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                opened = ast.unparse(node.func)
                if opened in ("Image.open", "PIL.Image.open", "cv2.imread"):
                    found.append((path.relative_to(PACKAGE).as_posix(), [k.arg for k in node.keywords]))
    assert found == [("data/images.py", ["formats"])]


def test_postscript_starts_no_interpreter(tmp_path, monkeypatch):
    ran = tmp_path / "ran"
    for name in ("gs", "gswin64c"):
        (tmp_path / name).write_text(f"#!/bin/sh\ntouch {ran}\nexit 1\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    subprocess.run(["gs"], check=False)
    assert ran.exists()  # the trap works
    ran.unlink()
    (tmp_path / "a.jpg").write_bytes(POSTSCRIPT)
    with pytest.raises(
        DataError, match=r"list:1: '.*a\.jpg' is not an image that can be read; the formats are JPEG"
    ):
        decode_image(tmp_path / "a.jpg", "list:1")
    with pytest.raises(DataError, match="not an image"):
        EncodedImage(Path("a.jpg"), "upload", POSTSCRIPT)
    assert not ran.exists()
    assert not {"EPS", "PDF", "WMF", "FITS", "HDF5", "GRIB", "PSD"} & set(FORMATS)


@pytest.mark.parametrize(
    ("suffix", "options", "tolerance"),
    [
        (".avif", {"quality": 90}, 40),
        (".bmp", {}, 0),
        (".gif", {"save_all": True, "append_images": [Image.new("RGB", (40, 24), "white")]}, 0),
        (".jp2", {"irreversible": False}, 0),
        (".jfif", {"format": "JPEG", "quality": 95}, 40),
        (".mpo", {"save_all": True, "append_images": [Image.new("RGB", (40, 24), "white")]}, 60),
        (".png", {"save_all": True, "append_images": [Image.new("RGB", (40, 24), "white")]}, 0),
        (".tif", {"save_all": True, "append_images": [Image.new("RGB", (40, 24), "white")]}, 0),
        (".webp", {"lossless": True}, 0),
    ],
)
def test_formats_are_read_and_of_several_frames_the_first(suffix, options, tolerance, tmp_path):
    path = tmp_path / f"a{suffix}"
    halves().save(path, **options)
    read = np.asarray(to_channels(decode_image(path, "here"), 3)).astype(int)
    assert np.abs(read[4:-4, 4:-4] - np.asarray(halves())[4:-4, 4:-4]).mean() <= max(tolerance / 4, 0)
    assert np.abs(read - np.asarray(halves())).max() <= max(tolerance * 3, 0)


def test_heic_is_read_or_the_error_says_how_to_get_it(tmp_path):
    read = np.asarray(to_channels(decode_image(HEIC, "here"), 3)).astype(int)
    assert read.shape == (24, 40, 3)
    for (y, x), colour in {(4, 8): (200, 30, 30), (18, 8): (30, 180, 60), (12, 30): (30, 60, 200)}.items():
        assert np.abs(read[y, x] - colour).max() < 25
    without = [name for name in FORMATS if name != "HEIF"]
    for content in (None, HEIC.read_bytes()):
        with pytest.raises(DataError, match=r"quarters\.heic' is a HEIC image, .*paddle-cyclemlp\[heic\]"):
            EncodedImage(HEIC, "here", content, without)


def test_modes_whose_range_is_unknown_are_refused(tmp_path):
    """A 16-bit file with values of 8 bits would become black, and of 32 bits nobody knows the range."""
    small = np.full((4, 5), 200, dtype=np.uint16)
    Image.fromarray(small).save(tmp_path / "small.png")
    with pytest.raises(DataError, match=r"16-bit numbers up to 200 of 65535"):
        to_channels(decode_image(tmp_path / "small.png", "here"), 3)
    Image.fromarray(small.astype(np.int32)).save(tmp_path / "wide.tif")
    with pytest.raises(DataError, match="32-bit numbers from 200 to 200"):
        to_channels(decode_image(tmp_path / "wide.tif", "here"), 3)
    Image.fromarray(np.zeros((4, 5), dtype=np.uint16)).save(tmp_path / "black.png")
    assert not np.asarray(to_channels(decode_image(tmp_path / "black.png", "here"), 1)).any()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp"])
def test_exif_is_applied_as_pillow_does_or_ignored(suffix, orientation, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = np.random.default_rng(orientation).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    path = tmp_path / f"a{suffix}"
    Image.fromarray(pixels).resize((96, 72)).save(
        path, exif=exif, **({"quality": 95} if suffix == ".jpg" else {})
    )
    with pil_open(path) as image:
        stored, turned = image.convert("RGB"), ImageOps.exif_transpose(image).convert("RGB")
    file = EncodedImage(path, "here")
    assert file.orientation == (1 if suffix == ".tif" else orientation)  # Pillow always turns TIFF
    assert np.array_equal(np.asarray(upright(file.decode())), np.asarray(turned))
    box = (3, 5, 40, 61)
    assert np.array_equal(EncodedImage(path, "here").upright_part(box, 3), np.asarray(turned.crop(box)))
    for way, wanted in (("apply", turned), ("ignore", stored)):
        p = Preprocessing(input_size=(24, 32), crop_pct=1.0, exif=way)
        assert np.array_equal(
            EvaluationTransform(p)(decode_image(path, "here")), EvaluationTransform(p)(wanted)
        )
        transform = TrainingTransform(
            p, scale=(0.3, 0.5)
        )  # crops of less than twice the input: decoded whole
        ours = transform.finish.one(
            transform.begin_file(EncodedImage(path, "here"), np.random.default_rng(1))
        )
        assert np.array_equal(ours, transform(wanted, np.random.default_rng(1)))


def test_damaged_exif_is_no_orientation(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 77
    halves().save(tmp_path / "a.jpg", exif=exif)
    halves().save(tmp_path / "b.jpg", exif=b"Exif\0\0MM\0\x2a\xff\xff\xff\xff")
    for name in "ab":
        file = EncodedImage(tmp_path / f"{name}.jpg", "here")
        assert (file.orientation, upright(file.decode()).size) == (1, (40, 24))


def test_modes_that_pillow_cannot_convert_are_an_error():
    content = io.BytesIO()
    Image.new("RGB", (4, 4)).save(content, "PNG")
    image = Image.frombytes("La", (2, 2), bytes(8))
    with pytest.raises(DataError, match="of mode La, which cannot be converted"):
        to_channels(image, 3)
