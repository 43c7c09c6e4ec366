"""Opening one image file, decoding it or a part of it, and its conversion to the channels that a network takes.

Pillow decodes everything. Where `simplejpeg` is installed (the extra `fast`), it decodes the usual JPEG files, to the
same pixels in less time: both are libjpeg-turbo, and files in whose decoding its versions might differ, or which it
finds fault with, are left to Pillow. (Of a JPEG that is cut below a crop it cannot tell faults inside the image;
Pillow passes over those too.)
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, TypeVar

import numpy as np
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from cyclemlp.data.resampling import as_array, as_image, is_fast
from cyclemlp.errors import ConfigError, DataError

try:
    import simplejpeg
except ImportError:
    simplejpeg = None

try:
    from PIL import AvifImagePlugin
except ImportError:  # Pillow before 11.3
    AvifImagePlugin = None
try:
    import pi_heif
except ImportError:
    pi_heif = None
else:
    pi_heif.register_heif_opener()

T = TypeVar("T")
Box = tuple[int, int, int, int]  # left, upper, right, lower

#: The formats that are read, everywhere, as Pillow calls them; a file's content decides, not its name. Pillow knows
#: more, and some of those are interpreters: for a PostScript file it starts Ghostscript.
FORMATS = tuple(
    plugin.format
    for plugin in (
        BmpImagePlugin.BmpImageFile,
        GifImagePlugin.GifImageFile,
        JpegImagePlugin.JpegImageFile,
        Jpeg2KImagePlugin.Jpeg2KImageFile,
        PngImagePlugin.PngImageFile,
        PpmImagePlugin.PpmImageFile,
        TiffImagePlugin.TiffImageFile,
        WebPImagePlugin.WebPImageFile,
        *([] if AvifImagePlugin is None else [AvifImagePlugin.AvifImageFile]),
    )
) + (() if pi_heif is None else ("HEIF",))
FORMAT_WORDS = "JPEG, PNG, WebP, AVIF, TIFF, BMP, GIF, JPEG 2000, MPO, PNM and HEIC"
#: What is taken for an image in folders, in any case of letters.
EXTENSIONS = frozenset(
    {
        *(".avif", ".bmp", ".gif", ".heic", ".heif", ".hif", ".jfif", ".jp2", ".jpeg", ".jpg"),
        *(".mpo", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"),
    }
)
#: Brands of ISO media files, see `_brand`: what is said of a file that nothing installed reads.
BRANDS = {
    **dict.fromkeys(
        (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"),
        "a HEIC image, which needs the extra `heic`: pip install 'paddle-cyclemlp[heic]', or save it as JPEG",
    ),
    **dict.fromkeys(
        (b"avif", b"avis"), "an AVIF image, which needs Pillow 11.3 or later, or save it as JPEG"
    ),
}
MODE_OF_CHANNELS = {1: "L", 3: "RGB"}
JPEG_MAGIC = b"\xff\xd8\xff"
END_OF_IMAGE = b"\xff\xd9"
SEQUENTIAL_FRAMES = (0xC0, 0xC1)  # SOF0 and SOF1: baseline and extended, Huffman
START_OF_SCAN = 0xDA
ORIENTATION = 0x0112  # the tag of EXIF
#: Orientation by EXIF → what puts the stored pixels upright; 1 is upright.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SIDEWAYS = (5, 6, 7, 8)  # width and height are exchanged
UPRIGHT_FORMATS = ("TIFF", "HEIF")
EXIF_KEYS = ("exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp")  # where Pillow keeps it
JPEG_METADATA = 1 << 17  # bytes in which a JPEG's orientation is looked for
MARKER = re.compile(rb"\xff[^\0]")  # in a scan, a 0 after 255 means the number itself
#: (colour space, subsampling) → what to decode to: the forms that every version of libjpeg decodes to the same bits.
PLAIN_JPEGS = {
    ("YCbCr", "444"): "RGB",
    ("YCbCr", "422"): "RGB",
    ("YCbCr", "420"): "RGB",
    ("Gray", "Gray"): "GRAY",
}


class UnknownImageError(DataError):
    """A file that is not an image, or of no format that may be read."""


class HugeImageError(DataError):
    """An image with so many pixels that it may be a decompression bomb."""


def pil_open(file: str | os.PathLike[str] | BinaryIO, formats: Sequence[str] | None = None) -> Image.Image:
    """`PIL.Image.open` for the formats that may be read; every image, mask and figure is opened here.

    Args:
        file: a path, or an open file.
        formats: fewer than `FORMATS`.

    Raises:
        OSError, ValueError, SyntaxError …: Pillow's; `EncodedImage` makes them a DataError.
    """
    return Image.open(file, formats=FORMATS if formats is None else formats)


def decode_image(path: Path, location: str) -> Image.Image:
    """Decode a whole image, in its own mode; arguments and errors are `EncodedImage`'s."""
    return EncodedImage(path, location).decode()


class EncodedImage:
    """An image file whose header was read, to be decoded whole or in part.

    Pixels are those of the file: an orientation noted in its EXIF data is not applied, but see `upright`.

    Args:
        path: the file.
        location: what to call it in a message, e.g. "val.txt:12".
        content: the file's content, where it is known; `path` is then only its name.
        formats: names of the formats, as Pillow has them, that may be read; None for all of `FORMATS`.

    Attributes:
        size: width and height in pixels.

    Raises:
        DataError: here or while decoding: no such file, not an image (`UnknownImageError`), truncated, or so large
            that it may be a decompression bomb (above `PIL.Image.MAX_IMAGE_PIXELS`: `HugeImageError`).
    """

    def __init__(
        self,
        path: Path | str,
        location: str,
        content: bytes | None = None,
        formats: Sequence[str] | None = None,
    ) -> None:
        self.path, self.location, self._content = path, location, content
        self._jpeg: bytes | None = None  # the file's content, if it is one
        self._colours: str | None = None  # what simplejpeg decodes it to
        self._opened: Image.Image | None = None  # by Pillow
        if content is None and not (file := Path(path)).is_file():
            found = "is a folder" if file.is_dir() else "is not a file" if file.exists() else "does not exist"
            raise DataError(f"{named(location, path, 'the image ')} {found}")
        if simplejpeg is not None and is_fast() and self._read_plain_jpeg(content):
            return
        if content is None:
            content = self._jpeg
        self._opened = self._guarded(
            lambda: pil_open(path if content is None else io.BytesIO(content), formats)
        )
        self.size: tuple[int, int] = self._opened.size

    @cached_property
    def orientation(self) -> int:
        """By its EXIF data, from 1 (upright) to 8; see `orientation`."""
        if self._opened is not None:
            return orientation(self._opened)
        jpeg = self._jpeg or b""
        if not any(jpeg.find(word, 0, JPEG_METADATA) >= 0 for word in (b"Exif\0", b"tiff:Orientation")):
            return 1
        with self._guarded(lambda: pil_open(io.BytesIO(jpeg), ["JPEG"])) as image:
            return orientation(image)

    def decode(self, scale: int = 1) -> Image.Image:
        """The whole image, in its own mode.

        Args:
            scale: 1, 2, 4 or 8: a JPEG is decoded to 1 / scale of its size, rounded up, in a fraction of the time;
                only JPEGs can be.
        """
        pixels = self._decode_plain_jpeg(scale)
        if pixels is None:
            return self._decode_by_pillow(scale)
        image = as_image(pixels)
        if self.orientation != 1:  # for `upright`
            exif = Image.Exif()
            exif[ORIENTATION] = self.orientation
            image.info["exif"] = exif.tobytes()
        return image

    def part(self, box: Box, channels: int, scale: int = 1) -> np.ndarray:
        """A part of the image as greyscale or RGB, see `to_channels`: uint8 [height, width, channels].

        Args:
            box: the part, in pixels of the whole image.
            channels: 1 or 3.
            scale: 1, 2, 4 or 8: a JPEG's part at 1 / scale of its size, from whole pixels of that size.
        """
        if scale > 1 and not self.is_jpeg:
            scale = 1
        left, upper, right, lower = box
        left, upper, right, lower = left // scale, upper // scale, -(-right // scale), -(-lower // scale)
        pixels = self._decode_plain_jpeg(scale, lower * scale)
        try:
            if pixels is None:
                image = to_channels(self._decode_by_pillow(scale), channels).crop((left, upper, right, lower))
                return as_array(image)
            pixels = pixels[upper:lower, left:right]
            if pixels.shape[2] != channels:
                pixels = as_array(to_channels(as_image(np.ascontiguousarray(pixels)), channels))
            return pixels
        except _PixelsError as error:
            raise DataError(f"{named(self.location, self.path)}: {error}") from error

    def upright_part(self, box: Box, channels: int, scale: int = 1) -> np.ndarray:
        """As `part`, of the image as `upright` puts it; the box is in pixels of that."""
        width, height = self.upright_size
        left, upper, right, lower = box
        # From upright coordinates to the file's.
        if self.orientation in (2, 3, 6, 7):
            left, right = width - right, width - left
        if self.orientation in (3, 4, 7, 8):
            upper, lower = height - lower, height - upper
        if self.orientation in SIDEWAYS:
            left, upper, right, lower = upper, left, lower, right
        pixels = self.part((left, upper, right, lower), channels, scale)
        if self.orientation in SIDEWAYS:
            pixels = pixels.swapaxes(0, 1)
        rows = slice(None, None, -1 if self.orientation in (3, 4, 7, 8) else 1)
        columns = slice(None, None, -1 if self.orientation in (2, 3, 6, 7) else 1)
        return pixels[rows, columns]

    @property
    def upright_size(self) -> tuple[int, int]:
        """Width and height, in pixels, of the image as `upright` puts it."""
        return (self.size[1], self.size[0]) if self.orientation in SIDEWAYS else self.size

    @property
    def is_jpeg(self) -> bool:
        """Whether it can be decoded at a scale."""
        return self._colours is not None or getattr(self._opened, "format", None) == "JPEG"

    def _read_plain_jpeg(self, content: bytes | None) -> bool:
        if content is not None:
            self._jpeg = content if content.startswith(JPEG_MAGIC) else None
        else:
            self._jpeg = self._read_jpeg()
        if self._jpeg is None:
            return False
        try:
            height, width, *form = simplejpeg.decode_jpeg_header(self._jpeg)
        except ValueError:
            return False
        colours = PLAIN_JPEGS.get(tuple(form))
        if colours is None or (
            Image.MAX_IMAGE_PIXELS is not None and width * height > Image.MAX_IMAGE_PIXELS
        ):
            return False
        self._colours, self.size = colours, (width, height)
        return True

    def _brand(self) -> bytes:
        """The major brand of an ISO media file (ISO/IEC 14496-12), of which HEIC and AVIF are; of others nothing."""
        head = (self._content or b"")[:12]
        if self._content is None:
            with contextlib.suppress(OSError), Path(self.path).open("rb") as file:
                head = file.read(12)
        return head[8:12] if head[4:8] == b"ftyp" else b""

    def _read_jpeg(self) -> bytes | None:
        try:
            with Path(self.path).open("rb", buffering=0) as file:
                if file.read(len(JPEG_MAGIC)) != JPEG_MAGIC:
                    return None
                return JPEG_MAGIC + file.readall()
        except OSError:
            return None  # Pillow's errors say what is wrong

    def _decode_plain_jpeg(self, scale: int, rows: int | None = None) -> np.ndarray | None:
        """uint8 [H, W, 3] or [H, W, 1], perhaps no more than `rows` of the whole image, at the scale; None if it is
        for Pillow to decode, or to say what is wrong."""
        if self._colours is None or self._jpeg is None:
            return None
        jpeg, (width, height) = self._jpeg, self.size
        cut = None if rows is None or rows >= height else cut_jpeg(jpeg, rows)
        if cut is not None:
            jpeg, height = cut
        try:
            return simplejpeg.decode_jpeg(
                jpeg,
                self._colours,
                min_width=-(-width // scale),
                min_height=-(-height // scale),
                strict=cut is None,  # it is a fault that data are left over
            )
        except ValueError:
            return None

    def _decode_by_pillow(self, scale: int) -> Image.Image:
        def decode() -> Image.Image:
            with self._opened or pil_open(io.BytesIO(self._jpeg or b""), ["JPEG"]) as image:
                if scale > 1:
                    image.draft(None, (image.width // scale, image.height // scale))
                image.load()
            return image

        return self._guarded(decode)

    def _guarded(self, work: Callable[[], T]) -> T:
        """Do something with Pillow; what goes wrong is a DataError."""
        path, location = self.path, self.location
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", Image.DecompressionBombWarning)
                # Metadata that a decoder finds odd does not touch the pixels.
                warnings.filterwarnings("ignore", category=UserWarning, module="PIL")
                return work()
        except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
            raise HugeImageError(
                f"{named(location, path, 'the image ')} is too large ({error}); if you trust it, make it smaller "
                "first"
            ) from error
        except Image.UnidentifiedImageError as error:
            why = BRANDS.get(self._brand(), f"not an image that can be read; the formats are {FORMAT_WORDS}")
            raise UnknownImageError(f"{named(location, path)} is {why}") from error
        except Exception as error:  # decoders raise OSError, SyntaxError, ValueError, struct.error …
            raise DataError(f"{named(location, path, 'the image ')} cannot be decoded: {error}") from error


def named(location: str, path: str | os.PathLike[str], noun: str = "") -> str:
    """The beginning of a message about an image: its place, and its file where the place does not say it already."""
    path = os.fspath(path)
    return f"{noun}{path!r}" if location == path else f"{location}: {noun}{path!r}"


@dataclass(frozen=True)
class DecodedImage:
    """An image that is decoded already, in the place of a `EncodedImage`.

    Attributes:
        image: in any mode, perhaps with EXIF data.
    """

    image: Image.Image

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.image.size

    @property
    def upright_size(self) -> tuple[int, int]:
        """The same of the image as `upright` puts it."""
        width, height = self.image.size
        return (height, width) if orientation(self.image) in SIDEWAYS else (width, height)

    def decode(self) -> Image.Image:
        """The image."""
        return self.image


def cut_jpeg(jpeg: bytes, rows: int) -> tuple[bytes, int] | None:
    """The same image without its lower part, which a decoder then spares itself, and its height.

    The header says a smaller height, so that decoding ends there. Blocks are up to 16 rows high, and a row's colours
    are interpolated from the next block's: so up to 16 rows more than asked are left, and those asked for are the
    same to the bit.

    Args:
        jpeg: a JPEG file (ITU-T T.81, annex B).
        rows: how many are wanted.

    Returns:
        None where it cannot be done: a progressive image, or one in several scans, where every scan goes over all
        rows; one with any marker before that of its end, so that no damaged file is taken for a cut one; or where it
        spares nothing.
    """
    at, size_at, height, components = 2, 0, 0, 0
    while at + 10 <= len(jpeg) and jpeg[at] == 0xFF:
        marker, length = jpeg[at + 1], int.from_bytes(jpeg[at + 2 : at + 4], "big")
        if marker in SEQUENTIAL_FRAMES:
            size_at, components = at + 5, jpeg[at + 9]
            height = int.from_bytes(jpeg[size_at : size_at + 2], "big")
        elif marker == START_OF_SCAN:
            kept = (rows // 16 + 1) * 16
            if not size_at or jpeg[at + 4] != components or kept >= height or not jpeg.endswith(END_OF_IMAGE):
                return None
            first_marker = MARKER.search(jpeg, at + 2 + length)
            if first_marker is None or first_marker.end() != len(jpeg):
                return None
            return jpeg[:size_at] + kept.to_bytes(2, "big") + jpeg[size_at + 2 :], kept
        at += 2 + length
    return None


def orientation(image: Image.Image) -> int:
    """How an image is stored, by its EXIF data: from 1 (upright) to 8; 1 where they do not say, or nonsense.

    Of TIFF and HEIC it is always 1: there the orientation belongs to the format, and decoding applies it.
    """
    if image.format in UPRIGHT_FORMATS:
        return 1
    try:
        value = image.getexif().get(ORIENTATION, 1)
    except Exception:  # damaged metadata; Pillow raises several kinds
        return 1
    return int(value) if value in TURNS else 1


def upright(image: Image.Image) -> Image.Image:
    """The image turned and mirrored as its EXIF data say."""
    turn = TURNS.get(orientation(image))
    if turn is None:
        return image
    turned = image.transpose(turn)
    turned.format = image.format
    for key in EXIF_KEYS:  # it is done
        turned.info.pop(key, None)
    return turned


class _PixelsError(DataError):
    """An image whose numbers nobody can read; does not say yet which image."""


def to_channels(image: Image.Image, channels: int) -> Image.Image:
    """`image` as greyscale ("L", 1 channel) or RGB (3), 8 bits a channel.

    Transparency is dropped, as torchvision's loader does. 16-bit greyscale keeps its upper 8 bits.

    Raises:
        DataError: an image of 32-bit or floating-point numbers, whose range nobody knows, or of 16-bit numbers that
            would all become 0; of a mode that Pillow cannot convert.
        ConfigError: `channels` is neither 1 nor 3.
    """
    if channels not in MODE_OF_CHANNELS:
        raise ConfigError(f"images are read with 1 channel (greyscale) or 3 (RGB), not {channels}")
    mode = MODE_OF_CHANNELS[channels]
    if image.mode == mode:
        return image
    if image.mode.startswith(
        "I"
    ):  # I;16 in its byte orders; I is 32 bits wide, but holds 16 where a PNG was read
        values = np.asarray(image)
        least, most = (int(values.min()), int(values.max())) if values.size else (0, 0)
        if least < 0 or most > 0xFFFF or (image.mode == "I" and image.format not in (None, "PNG", "PPM")):
            raise _PixelsError(f"holds 32-bit numbers from {least} to {most}; convert it to 8 bits first")
        if 0 < most <= 0xFF:
            raise _PixelsError(
                f"holds 16-bit numbers up to {most} of 65535 only, so that it would be all black; convert it to 8 bits "
                "first"
            )
        image = Image.fromarray((values >> 8).astype(np.uint8))
    elif image.mode == "F":
        raise _PixelsError("holds floating-point numbers of unknown range; convert it to 8 bits first")
    elif image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # the same colours, without Pillow's warning
    try:
        return image if image.mode == mode else image.convert(mode)
    except ValueError as error:  # Pillow has no way from this mode
        raise _PixelsError(
            f"is of mode {image.mode}, which cannot be converted ({error}); save it as RGB first"
        ) from error
