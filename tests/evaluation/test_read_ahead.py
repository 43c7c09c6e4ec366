"""Prediction reads the next batch while the network works on this one."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from PIL import Image

from cyclemlp.data import ImageFiles, build_loader, evaluation_transform
from cyclemlp.errors import DataError
from cyclemlp.evaluation import predict
from cyclemlp.preprocessing import Preprocessing


@pytest.fixture
def sources(tmp_path):
    for i in range(6):
        Image.new("RGB", (8, 8), (40 * i, 0, 0)).save(tmp_path / f"{i}.png")
    return tmp_path


def loader(folder, transform=None, workers=0):
    transform = transform or evaluation_transform(Preprocessing(input_size=8, crop_pct=1.0))
    return build_loader(ImageFiles([folder]), transform, batch_size=2, num_workers=workers)


def brightest(images):
    """Logits of two classes from the mean of the first channel."""
    means = np.asarray(images)[:, 0].mean(axis=(1, 2))
    return np.stack([means, -means], axis=1)


def test_a_batch_is_read_while_the_one_before_is_computed(sources):
    own, read = (
        evaluation_transform(Preprocessing(input_size=8, crop_pct=1.0)),
        [threading.Event() for _ in range(6)],
    )

    def transform(image, rng):
        read[image.getpixel((0, 0))[0] // 40].set()
        return own(image, rng)

    computed = []

    def network(images):
        if len(computed) < 2:  # of the last batch nothing follows
            assert read[2 * len(computed) + 3].wait(20)  # the last image of the next batch
        computed.append(len(images))
        return brightest(images)

    found = list(predict(network, loader(sources, transform), topk=1, progress=False))
    assert [prediction.index for prediction in found] == list(range(6))
    assert computed == [2, 2, 2]


def test_worker_processes_read_ahead_by_themselves(sources):
    found = list(predict(brightest, loader(sources, workers=2), topk=1, progress=False))
    assert [prediction.index for prediction in found] == list(range(6))


def test_an_image_that_cannot_be_read_ends_it_after_what_came_before(sources):
    (sources / "4.png").write_bytes(b"no image")
    predictions = predict(brightest, loader(sources), progress=False)
    assert [next(predictions).index for _ in range(4)] == [0, 1, 2, 3]
    with pytest.raises(DataError, match=r"4\.png"):
        next(predictions)


def test_who_stops_early_leaves_no_thread_behind(sources):
    before = set(threading.enumerate())
    predictions = predict(brightest, loader(sources), progress=False)
    next(predictions)
    (reader,) = (thread for thread in threading.enumerate() if thread not in before)
    predictions.close()
    assert not reader.is_alive()
