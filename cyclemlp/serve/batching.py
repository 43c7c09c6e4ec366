"""Micro-batching: what single requests bring is run together."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")


@dataclass(frozen=True)
class Done:
    """What became of one image.

    Attributes:
        result: what `run` gave for it.
        batch: how many images ran together.
        wait_seconds: from its arrival to the start of its batch.
        run_seconds: of the batch.
    """

    result: Any
    batch: int
    wait_seconds: float
    run_seconds: float


@dataclass(eq=False)
class _Waiting(Generic[Item]):
    item: Item
    shape: Hashable
    done: asyncio.Future[Done]
    since: float = field(default_factory=time.monotonic)


class Batcher(Generic[Item]):
    """Collects images, in the order of their arrival, into batches of one shape, and runs one batch at a time.

    While a batch runs the next ones arrive, so under load batches fill by themselves. Only a batch that is not full
    waits, and only while another request has been announced: a lone client is answered at once.

    Args:
        run: from images of one shape to a result each, in a thread of its own. An error becomes that of every
            image of the batch.
        shape: of an image; others of the same run with it.
        most: images of a batch.
        wait_seconds: longest wait of a batch's first image for others.
    """

    def __init__(
        self,
        run: Callable[[list[Item]], Sequence[Any]],
        shape: Callable[[Item], Hashable],
        most: int,
        wait_seconds: float,
    ) -> None:
        self._run, self._shape, self._most, self._wait_seconds = run, shape, most, wait_seconds
        self._waiting: deque[_Waiting[Item]] = deque()
        self._announced = 0
        self._changed = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="network")

    @property
    def waiting(self) -> int:
        """How many images wait."""
        return len(self._waiting)

    @contextmanager
    def announced(self) -> Iterator[Callable[[], None]]:
        """Within it an image is on its way, until it is handed over, which the function it gives is called for."""
        self._announced += 1
        counted = True

        def handed_over() -> None:
            nonlocal counted
            if counted:
                counted = False
                self._announced -= 1
                self._changed.set()

        try:
            yield handed_over
        finally:
            handed_over()

    def submit(self, item: Item) -> asyncio.Future[Done]:
        """Have an image run with others of its shape; the error of its future is what `run` raises."""
        waiting = _Waiting(item, self._shape(item), asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        self._changed.set()
        return waiting.done

    async def work(self) -> None:
        """Run batches, until cancelled."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                await self._filled()
                batch = self._taken()
                begun = time.monotonic()
                try:
                    results = await loop.run_in_executor(self._thread, self._run, [w.item for w in batch])
                    pairs = list(zip(batch, results, strict=True))
                except Exception as error:  # whatever a runtime raises; the next batch may do better
                    for waiting in batch:
                        if not waiting.done.done():
                            waiting.done.set_exception(error)
                    continue
                seconds = time.monotonic() - begun
                for waiting, result in pairs:
                    if not waiting.done.done():  # its request may have been given up
                        waiting.done.set_result(Done(result, len(batch), begun - waiting.since, seconds))
        finally:
            self._thread.shutdown(wait=False, cancel_futures=True)

    async def _filled(self) -> None:
        """Return once a batch should run."""
        while True:
            self._changed.clear()
            if self._waiting:
                left = self._waiting[0].since + self._wait_seconds - time.monotonic()
                if not self._announced or left <= 0 or self._full():
                    return
                try:
                    await asyncio.wait_for(self._changed.wait(), left)
                except asyncio.TimeoutError:
                    return
            else:
                await self._changed.wait()

    def _full(self) -> bool:
        shape = self._waiting[0].shape
        return sum(waiting.shape == shape for waiting in self._waiting) >= self._most

    def _taken(self) -> list[_Waiting[Item]]:
        """The first image and the next ones of its shape; others stay, in their order."""
        shape, batch, rest = self._waiting[0].shape, list[_Waiting[Item]](), deque[_Waiting[Item]]()
        for waiting in self._waiting:
            fits = len(batch) < self._most and waiting.shape == shape
            (batch if fits else rest).append(waiting)
        self._waiting = rest
        return batch
