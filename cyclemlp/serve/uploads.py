"""From a request to the content of its image: within the limits, or refused in words."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator

from fastapi import Request
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from cyclemlp.serve.decoder import RefusedError
from cyclemlp.serve.limits import Limits


class Memory:
    """Counts the bytes of all bodies that are held."""

    def __init__(self, most: int) -> None:
        self._most, self.held = most, 0

    def take(self, count: int) -> None:
        """Raises RefusedError (503) if that would be too many."""
        if self.held + count > self._most:
            raise RefusedError(
                503, "the images that are being received fill the memory set aside for them; try again"
            )
        self.held += count

    def give_back(self, count: int) -> None:
        """What was taken."""
        self.held -= count


class Upload:
    """The body of one request; use it as a context manager, so that its memory is counted as long as it is held.

    Args:
        request: with the image as its body, or as a file of a multipart form.
        limits: of size and time.
        memory: shared by all requests.
    """

    def __init__(self, request: Request, limits: Limits, memory: Memory) -> None:
        self._request, self._limits, self._memory = request, limits, memory
        self.size = 0  # bytes, with what is around the image

    def __enter__(self) -> Upload:
        return self

    def __exit__(self, *error: object) -> None:
        self._memory.give_back(self.size)

    async def read(self) -> tuple[bytes, str]:
        """The image's content, and what to call it.

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
                    400, "the multipart form holds no file; send the image as one, in any field"
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
                "smaller image",
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
