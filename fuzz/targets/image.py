"""Image files, by `cyclemlp.data.pictures` and the transform of an evaluation."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from cyclemlp.data import evaluation_transform
from cyclemlp.data.pictures import PictureFile
from cyclemlp.preprocessing import Preprocessing

FORMS = {
    "PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
    "JPEG": ("L", "RGB", "CMYK"),
    "WEBP": ("RGB", "RGBA"),
    "BMP": ("1", "L", "RGB"),
    "TIFF": ("L", "RGB", "CMYK", "F", "I;16"),
    "PPM": ("1", "L", "RGB"),
    "GIF": ("P", "L"),
}
TRANSFORMS = [
    evaluation_transform(Preprocessing(input_size=16, mean=mean, std=mean))
    for mean in ((0.5,), (0.5, 0.5, 0.5))
]


def seeds():
    pixels = np.random.default_rng(0).integers(0, 255, (13, 17, 3)).astype(np.uint8)
    image = Image.fromarray(pixels)
    for form, modes in FORMS.items():
        for mode in modes:
            wide = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
            changed = wide if mode == "I;16" else image.convert("F" if mode == "F" else mode)
            yield encoded(changed, form)
    yield encoded(image, "JPEG", progressive=True)
    yield encoded(
        image,
        "JPEG",
        subsampling=0,
        exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0",
    )
    yield encoded(image, "TIFF", compression="tiff_lzw")


def encoded(image, form, **options):
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def check(data):
    image = PictureFile(Path("a.jpg"), "a.jpg", data).decode()
    for transform in TRANSFORMS:
        result = transform(image)
        assert np.isfinite(np.asarray(result)).all(), "an input that is not finite"
