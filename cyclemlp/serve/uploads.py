"""From a request's body to a picture whose header was read: within the limits, or refused in words."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from pathlib import Path

from fastapi import Request
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from cyclemlp.data.pictures import HugePictureError, PictureFile, UnknownPictureError
from cyclemlp.errors import DataError
from cyclemlp.serve.limits import MOST_PIXELS, Limits

#: What is decoded, as Pillow calls it: the formats of `cyclemlp predict`. Pillow knows more, some of them interpreters.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "PPM")
FORMAT_WORDS = "JPEG, PNG, WebP, BMP, TIFF and PNM"
#: A progressive JPEG has about 10 scans, and each makes the decoder go over the whole picture again.
MOST_SCANS = 100
START_OF_SCAN = b"\xff\xda"


class RefusedError(Exception):
    """A request that is not answered as asked.

    Args:
        status: of HTTP.
        message: what was found, what was expected.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


class Memory:
    """Counts the bytes of all bodies that are held."""

    def __init__(self, most: int) -> None:
        self._most, self.held = most, 0

    def take(self, count: int) -> None:
        """Raises RefusedError (503) if that would be too many."""
        if self.held + count > self._most:
            raise RefusedError(
                503, "the pictures that are being received fill the memory set aside for them; try again"
            )
        self.held += count

    def give_back(self, count: int) -> None:
        """What was taken."""
        self.held -= count


class Upload:
    """The body of one request; use it as a context manager, so that its memory is counted as long as it is held.

    Args:
        request: with the picture as its body, or as a file of a multipart form.
        limits: of size and time.
        memory: shared by all requests.
    """

    def __init__(self, request: Request, limits: Limits, memory: Memory) -> None:
        self._request, self._limits, self._memory = request, limits, memory
        self.size = 0  # bytes, with what is around the picture

    def __enter__(self) -> Upload:
        return self

    def __exit__(self, *error: object) -> None:
        self._memory.give_back(self.size)

    async def read(self) -> tuple[bytes, str]:
        """The picture's content, and what to call it.

        Raises:
            RefusedError: 400 a broken form, or one without a file; 408 too slow; 413 too long; 503 no memory for it.
        """
        self._check_length(self._declared_length())
        kind = self._request.headers.get("content-type", "")
        if not kind.lower().startswith("multipart/form-data"):
            return b"".join([chunk async for chunk in self._chunks()]), "the request's body"
        parser = _Parser(
            self._request.headers, self._chunks(), max_files=1, max_fields=20, max_part_size=4096
        )
        try:
            form = await parser.parse()
        except MultiPartException as error:
            raise RefusedError(400, f"the multipart form cannot be read: {error.message}") from error
        try:
            file = next((value for value in form.values() if isinstance(value, UploadFile)), None)
            if file is None:
                raise RefusedError(
                    400, "the multipart form holds no file; send the picture as one, in any field"
                )
            return await file.read(), file.filename or "the form's file"
        finally:
            await form.close()

    def _declared_length(self) -> int:
        text = self._request.headers.get("content-length", "0")
        return int(text) if text.isdigit() else 0

    def _check_length(self, count: int) -> None:
        if count > self._limits.body_bytes:
            raise RefusedError(
                413,
                f"the request has {count:,} bytes or more; at most {self._limits.body_bytes:,} are taken: send a "
                "smaller picture",
            )

    async def _chunks(self) -> AsyncGenerator[bytes, None]:
        """The body as it comes, within the limits."""
        end = time.monotonic() + self._limits.read_seconds
        stream = self._request.stream()
        while True:
            try:
                chunk = await asyncio.wait_for(anext(stream), end - time.monotonic())
            except StopAsyncIteration:
                return
            except asyncio.TimeoutError:
                raise RefusedError(
                    408,
                    f"the request was not complete after {self._limits.read_seconds:g} s; {self.size:,} bytes had come",
                ) from None
            self._check_length(self.size + len(chunk))
            self._memory.take(len(chunk))
            self.size += len(chunk)
            yield chunk


class _Parser(MultiPartParser):
    # Starlette spools files above 1 MiB to disk; what is held here is counted, and a disk is slower.
    spool_max_size = 2**40


def open_upload(content: bytes, name: str, limits: Limits) -> PictureFile:
    """A picture from its content, not decoded yet.

    Raises:
        RefusedError: 400 empty or damaged; 413 too many pixels, or scans; 415 not a picture, or of another format.
    """
    if not content:
        raise RefusedError(
            400, f"{name} is empty; send a picture as the body, or as a file of a multipart form"
        )
    if content.count(START_OF_SCAN) > MOST_SCANS and content.startswith(b"\xff\xd8"):
        raise RefusedError(413, f"{name} is a JPEG in more than {MOST_SCANS} scans; save it anew")
    try:
        file = PictureFile(Path(name), "upload", content, FORMATS)
    except UnknownPictureError as error:
        raise RefusedError(
            415,
            f"{name} is no picture that is read here; expected {FORMAT_WORDS}, told by the content, not by the name",
        ) from error
    except HugePictureError as error:
        raise RefusedError(413, _too_many_pixels(name, f"more than {MOST_PIXELS:,}", limits)) from error
    except DataError as error:
        raise RefusedError(400, str(error)) from error
    width, height = file.size
    if width * height > limits.pixels:
        raise RefusedError(413, _too_many_pixels(name, f"{width:,} × {height:,}", limits))
    return file


def _too_many_pixels(name: str, found: str, limits: Limits) -> str:
    return f"{name} has {found} pixels; at most {limits.pixels / 1e6:g} million are decoded: send a smaller picture"
