"""The batcher alone: what runs together, and when."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from cyclemlp.serve.batching import Batcher


def run(scenario, *, run=None, most=4, wait_seconds=30.0):
    """What a coroutine of a batcher gives; items are numbers, their shape is their tens."""
    batches = []

    def noted(items):
        batches.append(items)
        return run(items) if run else [-item for item in items]

    async def main():
        batcher = Batcher(noted, lambda item: item // 10, most, wait_seconds)
        work = asyncio.create_task(batcher.work())
        try:
            return await asyncio.wait_for(scenario(batcher), 20)
        finally:
            work.cancel()
            await asyncio.wait([work])

    return asyncio.run(main()), batches


def test_a_lone_image_does_not_wait():
    async def scenario(batcher):
        return await batcher.submit(1)

    done, batches = run(scenario)  # the limit of 30 s is longer than the scenario may take
    assert (done.result, done.batch, batches) == (-1, 1, [[1]])


def test_images_wait_for_those_announced_until_the_batch_is_full():
    async def scenario(batcher):
        with batcher.announced():
            futures = [batcher.submit(i) for i in range(3)]
            await asyncio.sleep(0.05)
            assert not any(future.done() for future in futures)
            futures.append(batcher.submit(3))
            return [done.result for done in await asyncio.gather(*futures)]

    assert run(scenario) == ([0, -1, -2, -3], [[0, 1, 2, 3]])


def test_the_wait_has_an_end():
    async def scenario(batcher):
        with batcher.announced():
            return await batcher.submit(1)

    done, _ = run(scenario, wait_seconds=0.05)
    assert done.wait_seconds >= 0.05


def test_an_announced_image_that_never_comes_is_not_waited_for():
    async def scenario(batcher):
        with batcher.announced():
            future = batcher.submit(1)
            await asyncio.sleep(0.01)
        return await future

    assert run(scenario)[1] == [[1]]


def test_shapes_are_kept_apart_and_nobody_is_overtaken_in_his_shape():
    async def scenario(batcher):
        futures = [batcher.submit(item) for item in (1, 11, 2, 12, 3, 4, 5, 13)]
        return [done.result for done in await asyncio.gather(*futures)]

    results, batches = run(scenario)
    assert results == [-1, -11, -2, -12, -3, -4, -5, -13]
    assert batches == [[1, 2, 3, 4], [11, 12, 13], [5]]


def test_an_error_is_that_of_its_batch_alone():
    def fail(items):
        if 1 in items:
            raise RuntimeError("out of order")
        return items

    async def scenario(batcher):
        return await asyncio.gather(*(batcher.submit(item) for item in (1, 2, 11)), return_exceptions=True)

    (first, second, third), _ = run(scenario, run=fail)
    assert [str(first), str(second)] == ["out of order"] * 2
    assert third.result == 11


def test_a_request_that_was_given_up_harms_nobody():
    async def scenario(batcher):
        gone, stays = batcher.submit(1), batcher.submit(2)
        gone.cancel()
        return await stays

    done, _ = run(scenario)
    assert done.result == -2


def test_the_next_batch_fills_while_one_runs():
    started, go_on = threading.Event(), threading.Event()

    def slow(items):
        started.set()
        assert go_on.wait(20)
        return items

    async def scenario(batcher):
        futures = [batcher.submit(0)]
        await asyncio.to_thread(started.wait, 20)
        futures += [batcher.submit(i) for i in (1, 2, 3)]
        go_on.set()
        await asyncio.gather(*futures)

    assert run(scenario, run=slow)[1] == [[0], [1, 2, 3]]


def test_wrong_numbers_of_results_are_an_error_not_a_wait():
    async def scenario(batcher):
        begun = time.monotonic()
        with pytest.raises(ValueError, match="zip"):
            await batcher.submit(1)
        return time.monotonic() - begun

    run(scenario, run=lambda items: [])
