"""Image files, by `cyclemlp.data.images` and the transform of an evaluation."""

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms

from cyclemlp.data import evaluation_transform
from cyclemlp.data.images import EncodedImage, upright
from cyclemlp.preprocessing import Preprocessing

FORMS = {
    "PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
    "JPEG": ("L", "RGB", "CMYK"),
    "WEBP": ("RGB", "RGBA"),
    "BMP": ("1", "L", "RGB"),
    "TIFF": ("L", "RGB", "CMYK", "LAB", "YCbCr", "F", "I;16"),
    "PPM": ("1", "L", "RGB"),
    "GIF": ("P", "L"),
    "JPEG2000": ("L", "RGBA"),
    "AVIF": ("RGB", "RGBA"),
}
TRANSFORMS = [
    evaluation_transform(Preprocessing(input_size=16, mean=mean, std=mean, exif=exif))
    for mean in ((0.5,), (0.5, 0.5, 0.5))
    for exif in ("ignore", "apply")
]


def seeds():
    pixels = np.random.default_rng(0).integers(0, 255, (13, 17, 3)).astype(np.uint8)
    image = Image.fromarray(pixels)
    for form, modes in FORMS.items():
        for mode in modes:
            wide = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
            yield encoded(wide if mode == "I;16" else converted(image, mode), form)
    yield encoded(image, "JPEG", progressive=True)
    yield encoded(
        image,
        "JPEG",
        subsampling=0,
        exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0",
    )
    yield encoded(image, "TIFF", compression="tiff_lzw")


def converted(image, mode):
    if mode == "LAB":  # Pillow converts from and to it by colour profiles only
        profiles = [ImageCms.createProfile(space) for space in ("sRGB", "LAB")]
        return ImageCms.profileToProfile(image, *profiles, outputMode="LAB")
    return image.convert(mode)


def encoded(image, form, **options):
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def check(data):
    file = EncodedImage(Path("a.jpg"), "a.jpg", data)
    image = file.decode()
    assert upright(image).size == file.upright_size, "another size than the one that was told"
    for transform in TRANSFORMS:
        result = transform(image)
        assert np.isfinite(np.asarray(result)).all(), "an input that is not finite"
