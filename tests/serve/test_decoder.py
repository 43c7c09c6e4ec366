"""Decoding in processes that are ended when an image takes too long."""

from __future__ import annotations

import asyncio
import io
import time

import numpy as np
import pytest
from PIL import Image
from serve.service import image_bytes

from cyclemlp.serve.decoder import Decoders, RefusedError
from cyclemlp.serve.limits import Limits


def encoded(image, form, **options):
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def costly_jpeg(side, scans):
    """A progressive JPEG whose last scan comes again and again: a decoder goes over the whole image for each."""
    flat = Image.fromarray(np.full((side, side), 128, np.uint8)).convert("RGB")
    jpeg = encoded(flat, "JPEG", progressive=True, quality=1)
    table = jpeg.rindex(b"\xff\xc4", 0, jpeg.rindex(b"\xff\xda"))
    return jpeg[:-2] + jpeg[table:-2] * scans + b"\xff\xd9"


def decoded(*contents, channels=3, turned=False):
    """What becomes of some uploads that come at the same time: images, or (status, message)."""

    async def main():
        async with Decoders(2, Limits(), channels, turned) as decoders:
            return await asyncio.gather(
                *(decoders.decode(content, "it") for content in contents), return_exceptions=True
            )

    found = asyncio.run(main())
    return [
        (answer.status, str(answer)) if isinstance(answer, RefusedError) else answer.image for answer in found
    ]


def test_images_come_back_in_their_order():
    contents = [image_bytes(seed, (40 + seed, 30)) for seed in range(6)]
    for content, image in zip(contents, decoded(*contents), strict=True):
        np.testing.assert_array_equal(
            np.asarray(image), np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
        )


def test_grey_images_and_turned_ones():
    colours = np.zeros((20, 40, 3), np.uint8)
    colours[:, :20] = 200
    exif = Image.Exif()
    exif[0x0112] = 6
    content = encoded(Image.fromarray(colours), "PNG", exif=exif)
    (grey,) = decoded(content, channels=1)
    assert (grey.mode, grey.size) == ("L", (40, 20))
    (turned,) = decoded(content, turned=True)
    assert (turned.mode, turned.size) == ("RGB", (20, 40))
    assert np.asarray(turned)[5].min() == 200


def test_what_takes_long_is_refused_and_holds_up_nobody():
    small, begun = image_bytes(0), time.monotonic()
    costly, *others = decoded(costly_jpeg(6000, 90), *([small] * 20))
    assert costly[0] == 413
    assert "of a processor's time to decode" in costly[1]
    assert all(image.size == (50, 40) for image in others)
    assert time.monotonic() - begun < 60  # it would be minutes
    assert [answer[0] for answer in decoded(b"", b"none", small[:200], costly_jpeg(64, 120))] == [
        400,
        415,
        400,
        413,
    ]


def test_a_decoder_that_dies_is_replaced():
    async def main():
        async with Decoders(1, Limits(), 3, False) as decoders:
            for decoder in decoders._all:
                decoder.kill()
            with pytest.raises(RefusedError) as error:
                await decoders.decode(image_bytes(0), "it")
            assert error.value.status in (400, 413)
            return await decoders.decode(image_bytes(0), "it")

    assert asyncio.run(main()).size == (50, 40)


def test_every_mode_is_an_image_or_refused():
    base = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8))
    images = [base.convert(mode) for mode in ("1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr", "LAB")]
    images += [base.convert("L").convert(mode) for mode in ("I", "F")]
    images.append(Image.fromarray(np.zeros((20, 30), np.uint16)))
    found = decoded(*(encoded(image, "TIFF") for image in images))
    kinds = [answer.size if isinstance(answer, Image.Image) else answer[0] for answer in found]
    assert kinds[:7] == [(30, 20)] * 7
    assert all(kind in ((30, 20), 400, 415) for kind in kinds[7:]), kinds
