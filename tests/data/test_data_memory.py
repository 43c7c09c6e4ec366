"""A batch's memory is used again, but never while anybody holds the batch."""

from __future__ import annotations

import gc

import numpy as np
import pytest

from cyclemlp.data import Digits, build_loader, evaluation_transform
from cyclemlp.data.memory import KEPT, BatchMemory
from cyclemlp.preprocessing import Preprocessing


def address(array):
    return array.__array_interface__["data"][0]


def test_it_is_used_again_when_it_is_free():
    memory = BatchMemory()
    array = memory.array((4, 3, 2))
    assert array.dtype == np.float32
    assert array.shape == (4, 3, 2)
    assert array.flags.writeable
    assert array.flags.c_contiguous
    first = address(array)
    del array
    smaller = memory.array((3, 3, 2))
    assert address(smaller) == first
    assert smaller.shape == (3, 3, 2)


@pytest.mark.parametrize(
    "part",
    [
        lambda array: array[1:],
        lambda array: array[1],
        lambda array: array.transpose(2, 0, 1)[0].T,
        lambda array: array.reshape(-1)[::2],
        lambda array: memoryview(array),
        lambda array: np.asarray(memoryview(array)),
        lambda array: array.view(np.uint8),
        lambda array: np.frombuffer(array, dtype=np.float32),
        lambda array: np.from_dlpack(array),
        lambda array: iter(array),
    ],
)
def test_a_part_holds_the_whole(part):
    memory = BatchMemory()
    array = memory.array((4, 3, 2))
    array[...] = 7
    first, held = address(array), part(array)
    del array
    gc.collect()
    other = memory.array((4, 3, 2))
    other[...] = 0
    assert address(other) != first
    del held
    assert address(memory.array((4, 3, 2))) == first


def test_little_is_kept():
    memory = BatchMemory()
    held = [memory.array((5, 2)) for _ in range(9)]
    assert len({address(array) for array in held}) == 9
    held.clear()
    assert len(memory._free) == KEPT
    larger = memory.array((6, 2))
    assert larger.size == 12
    assert not memory._free


@pytest.mark.parametrize("tensors", [False, True])
def test_batches_that_are_kept_stay_as_they_are(tensors):
    loader = build_loader(
        Digits("val"), evaluation_transform(Preprocessing(input_size=8)), batch_size=50, tensors=tensors
    )
    kept = [batch.images for batch in loader]
    copies = [np.array(batch.images) for batch in loader]  # each before the next is read
    assert len(kept) > 3
    for _ in loader:
        pass
    for images, copy in zip(kept, copies, strict=True):
        assert np.array_equal(np.asarray(images), copy)


def test_a_loop_over_batches_needs_no_new_memory():
    loader = build_loader(Digits("val"), evaluation_transform(Preprocessing(input_size=8)), batch_size=50)
    assert len({address(batch.images) for batch in loader}) <= KEPT
