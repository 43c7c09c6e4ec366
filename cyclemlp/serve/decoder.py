"""Decoding uploads in processes of their own, which are ended when an image takes too much of a processor's time.

An image of a few kilobytes can keep a decoder busy for minutes: a progressive JPEG in a hundred scans, numbers as
text, a comment of a megabyte. No limit of size sees all of them, and a thread cannot be stopped. So `Decoders` hands
each upload to one of a few processes that run `main`; the system ends one whose time is up, and another takes its
place.

On the pipes, each way: the length of a JSON object in 8 bytes, the object, and as many bytes as its `bytes` says.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image

from cyclemlp.data.images import (
    FORMAT_WORDS,
    DecodedImage,
    EncodedImage,
    HugeImageError,
    UnknownImageError,
    to_channels,
    upright,
)
from cyclemlp.errors import DataError
from cyclemlp.serve.limits import MOST_PIXELS, Limits

#: A progressive JPEG has about 10 scans, and each makes the decoder go over the whole image again.
MOST_SCANS = 100
START_OF_SCAN = b"\xff\xda"

#: Processor time for one image, in seconds, and more for each megabyte of its file.
DECODE_SECONDS, DECODE_SECONDS_PER_MB = 1.5, 0.25
#: In case that a process waits instead of computing: so many times as long on the clock, and some to begin with.
_CLOCK_FACTOR, _CLOCK_SECONDS = 4.0, 5.0
_PIPE_BYTES = 2**24
_LENGTH = 8


class RefusedError(Exception):
    """A request that is not answered as asked.

    Args:
        status: of HTTP.
        message: what was found, what was expected.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


def open_upload(content: bytes, name: str, limits: Limits) -> EncodedImage:
    """An image from its content, not decoded yet.

    Raises:
        RefusedError: 400 empty or damaged; 413 too many pixels, or scans; 415 not an image, or of another format.
    """
    if not content:
        raise RefusedError(
            400, f"{name} is empty; send an image as the body, or as a file of a multipart form"
        )
    if content.count(START_OF_SCAN) > MOST_SCANS and content.startswith(b"\xff\xd8"):
        raise RefusedError(413, f"{name} is a JPEG in more than {MOST_SCANS} scans; save it anew")
    try:
        file = EncodedImage(Path(name), "upload", content)
    except UnknownImageError as error:
        raise RefusedError(
            415,
            f"{name} is no image that is read here; expected {FORMAT_WORDS}, by its content, not its name",
        ) from error
    except HugeImageError as error:
        raise RefusedError(413, _too_many_pixels(name, f"more than {MOST_PIXELS:,}", limits)) from error
    except DataError as error:
        raise RefusedError(400, str(error)) from error
    width, height = file.size
    if width * height > limits.pixels:
        raise RefusedError(413, _too_many_pixels(name, f"{width:,} × {height:,}", limits))
    return file


def _too_many_pixels(name: str, found: str, limits: Limits) -> str:
    return f"{name} has {found} pixels; at most {limits.pixels / 1e6:g} million are decoded: send a smaller image"


def decode_seconds(content: bytes) -> float:
    """Processor time that an upload may take, in seconds."""
    return DECODE_SECONDS + DECODE_SECONDS_PER_MB * len(content) / 1e6


# ---- in the service


class Decoders:
    """A few processes that decode; use it as an asynchronous context manager.

    Args:
        count: how many.
        limits: of pixels.
        channels: 1 or 3, of the decoded images.
        turned: whether images are turned as their EXIF data say.
    """

    def __init__(self, count: int, limits: Limits, channels: int, turned: bool) -> None:
        self._count, self._limits, self._channels, self._turned = count, limits, channels, turned
        self._idle: asyncio.Queue[_Decoder] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()
        self._all: set[_Decoder] = set()

    async def __aenter__(self) -> Decoders:
        await asyncio.gather(*(self._add() for _ in range(self._count)))
        return self

    async def __aexit__(self, *error: object) -> None:
        for task in self._tasks:
            task.cancel()
        for decoder in self._all:
            await decoder.end()

    async def decode(self, content: bytes, name: str) -> DecodedImage:
        """The image of an upload.

        Raises:
            RefusedError: as `open_upload`; 413 as well where decoding takes too much processor time.
        """
        head = {
            "name": name,
            "pixels": self._limits.pixels,
            "channels": self._channels,
            "turned": self._turned,
            "seconds": decode_seconds(content),
        }
        decoder = await self._idle.get()
        whole = False
        try:
            clock = _CLOCK_SECONDS + _CLOCK_FACTOR * head["seconds"]  # type: ignore[operator]
            answer, pixels = await asyncio.wait_for(decoder.ask(head, content), clock)
            whole = True
        except (OSError, asyncio.IncompleteReadError, asyncio.TimeoutError):
            status = await decoder.end()
            if status in (-signal.SIGPROF, -signal.SIGKILL):
                raise RefusedError(
                    413,
                    f"{name} takes more than {head['seconds']:.1f} s of a processor's time to decode; save it anew, "
                    "without progressive scans and with fewer pixels",
                ) from None
            raise RefusedError(400, f"{name} cannot be decoded: the decoder ended on it") from None
        finally:
            if whole:
                self._idle.put_nowait(decoder)
            else:  # ended, or cancelled in the middle of an answer
                self._all.discard(decoder)
                decoder.kill()
                task = asyncio.create_task(self._add())
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        if "status" in answer:
            raise RefusedError(answer["status"], answer["message"])
        shape = (answer["height"], answer["width"], self._channels)
        array = np.frombuffer(pixels, np.uint8).reshape(shape)
        return DecodedImage(Image.fromarray(array[..., 0] if self._channels == 1 else array))

    async def _add(self) -> None:
        decoder = await _Decoder.start()
        self._all.add(decoder)
        self._idle.put_nowait(decoder)


class _Decoder:
    """One process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls) -> _Decoder:
        code = f"import sys; sys.path[:] = {sys.path!r}; from cyclemlp.serve.decoder import main; main()"
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-W", "ignore", "-c", code),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=_PIPE_BYTES,
            start_new_session=True,  # Ctrl-C is the service's
        )
        return cls(process)

    async def ask(self, head: dict[str, Any], content: bytes) -> tuple[dict[str, Any], bytes]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(_packed(head, len(content)))
        self._process.stdin.write(content)
        await self._process.stdin.drain()
        length = int.from_bytes(await self._process.stdout.readexactly(_LENGTH), "little")
        answer = json.loads(await self._process.stdout.readexactly(length))
        return answer, await self._process.stdout.readexactly(answer["bytes"])

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def end(self) -> int:
        """Its exit status; it is ended where it still runs."""
        with contextlib.suppress(
            asyncio.TimeoutError
        ):  # a pipe may break a moment before the process is gone
            return await asyncio.wait_for(self._process.wait(), 0.2)
        self.kill()
        return await self._process.wait()


# ---- in a decoder's process


def main() -> None:
    """Decode what comes on standard input, until it ends."""
    source, target = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no answer
    while len(length := source.read(_LENGTH)) == _LENGTH:
        head = json.loads(source.read(int.from_bytes(length, "little")))
        content = source.read(head["bytes"])
        # SIGPROF ends the process, in whichever library it is.
        signal.setitimer(signal.ITIMER_PROF, head["seconds"])
        try:
            image = _decode(content, head)
            answer, pixels = {"width": image.width, "height": image.height}, image.tobytes()
        except RefusedError as error:
            answer, pixels = {"status": error.status, "message": error.message}, b""
        signal.setitimer(signal.ITIMER_PROF, 0)
        _write(target, answer, pixels)


def _decode(content: bytes, head: dict[str, Any]) -> Image.Image:
    try:
        image = open_upload(content, head["name"], Limits(pixels=head["pixels"])).decode()
        return to_channels(upright(image) if head["turned"] else image, head["channels"])
    except DataError as error:
        raise RefusedError(400, str(error)) from error
    except MemoryError as error:
        raise RefusedError(413, f"{head['name']} needs more memory than there is") from error
    except RefusedError:
        raise
    except Exception as error:  # of a decoder that is not as careful as it should be
        raise RefusedError(
            400, f"{head['name']} cannot be decoded: {type(error).__name__}: {error}"
        ) from error


def _write(file: IO[bytes], answer: dict[str, Any], content: bytes) -> None:
    file.write(_packed(answer, len(content)))
    file.write(content)
    file.flush()


def _packed(values: dict[str, Any], length: int) -> bytes:
    text = json.dumps({**values, "bytes": length}).encode()
    return len(text).to_bytes(_LENGTH, "little") + text
