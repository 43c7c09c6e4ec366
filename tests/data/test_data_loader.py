"""The loader: same images whoever reads them, and errors that say which image."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections import namedtuple

import numpy as np
import pytest
from PIL import Image

from cyclemlp.data import Digits, ListFile, build_loader, evaluation_transform, training_transform
from cyclemlp.errors import ConfigError, DataError
from cyclemlp.preprocessing import Preprocessing

GREY = Preprocessing(input_size=12, mean=(0.5,), std=(0.5,))
TRAINING = training_transform(GREY, scale=(0.5, 1.0))
EVALUATION = evaluation_transform(GREY)


@pytest.fixture(scope="module")
def digits():
    return Digits("val")


@pytest.fixture
def spoilt(tmp_path):
    """Ten images named by a list; the one in line 7 is no image."""
    for i in range(10):
        Image.new("L", (9, 9), 20 * i).save(tmp_path / f"{i}.png")
    (tmp_path / "6.png").write_text("no image")
    (tmp_path / "list.txt").write_text("".join(f"{i}.png {i % 3}\n" for i in range(10)))
    return ListFile(tmp_path, tmp_path / "list.txt")


def read(loader, epoch=0):
    """All of an epoch as three arrays."""
    loader.set_epoch(epoch)
    return [np.concatenate(part) for part in zip(*loader, strict=True)]


def same(first, second):
    return all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_batches_are_arrays_in_order(digits):
    loader = build_loader(digits, EVALUATION, batch_size=100)
    batches = list(loader)
    assert len(loader) == len(batches) == 4
    assert [batch.images.shape for batch in batches] == [(100, 1, 12, 12)] * 3 + [(59, 1, 12, 12)]
    assert batches[0].images.dtype == np.float32
    assert batches[0].labels.dtype == batches[0].indices.dtype == np.int64
    images, labels, indices = read(loader)
    assert np.array_equal(indices, np.arange(359))
    assert np.array_equal(labels, [digits.label(i) for i in range(359)])
    assert np.array_equal(images[200], EVALUATION(digits[200].image))


def test_workers_change_no_bit_in_any_epoch(digits):
    alone, two = (
        build_loader(digits, TRAINING, batch_size=32, shuffle=True, num_workers=n, seed=5) for n in (0, 2)
    )
    for epoch in (0, 1, 4):
        assert same(read(alone, epoch), read(two, epoch))
    two.close()


def test_epochs_and_seeds_differ_and_each_has_every_image(digits):
    loader = build_loader(digits, TRAINING, batch_size=32, shuffle=True, seed=5)
    other = build_loader(digits, TRAINING, batch_size=32, shuffle=True, seed=6)
    epochs = [read(loader, 0), read(loader, 1), read(other, 0)]
    for images, labels, indices in epochs:
        assert np.array_equal(np.sort(indices), np.arange(len(digits)))
        assert np.array_equal(labels, [digits.label(i) for i in indices])
        assert len(images) == len(digits)
    for a, b in ((0, 1), (0, 2)):
        assert not np.array_equal(epochs[a][2], epochs[b][2])
        # The same image is cropped differently, not only in another place of the order.
        first, second = (epochs[k][0][np.argsort(epochs[k][2])] for k in (a, b))
        assert (np.abs(first - second).max(axis=(1, 2, 3)) > 0).mean() > 0.95


def test_an_image_is_the_same_whatever_the_batch_size_and_order(digits):
    big = read(build_loader(digits, TRAINING, batch_size=100, shuffle=True, seed=1), 2)
    small = read(build_loader(digits, TRAINING, batch_size=7, shuffle=False, seed=1), 2)
    assert same([part[np.argsort(big[2])] for part in big], small)


def test_resume_in_a_later_epoch_equals_the_uninterrupted_run(digits):
    run = build_loader(digits, TRAINING, batch_size=64, shuffle=True, seed=2)
    uninterrupted = [read(run, epoch) for epoch in range(4)]
    resumed = build_loader(digits, TRAINING, batch_size=64, shuffle=True, seed=2)
    assert same(read(resumed, 3), uninterrupted[3])


def test_an_abandoned_epoch_leaves_nothing_behind(digits):
    loader = build_loader(digits, TRAINING, batch_size=16, shuffle=True, num_workers=2, seed=5)
    loader.set_epoch(7)
    for count, _ in enumerate(loader):
        if count == 2:
            break
    alone = build_loader(digits, TRAINING, batch_size=16, shuffle=True, seed=5)
    assert same(read(loader, 1), read(alone, 1))
    loader.close()


@pytest.mark.parametrize("workers", [0, 2])
def test_tensors_on_request(digits, workers):
    import paddle

    loader = build_loader(digits, EVALUATION, batch_size=200, num_workers=workers, tensors=True)
    arrays = list(build_loader(digits, EVALUATION, batch_size=200))
    for batch, array in zip(loader, arrays, strict=True):
        assert isinstance(batch.images, paddle.Tensor)
        assert isinstance(batch.labels, paddle.Tensor)
        assert batch.labels.dtype == paddle.int64
        assert np.array_equal(batch.images.numpy(), array.images)
        assert np.array_equal(batch.labels.numpy(), array.labels)
        assert np.array_equal(batch.indices, array.indices)
    loader.close()


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("tensors", [False, True])
def test_a_batch_stays_as_it_is_when_the_next_is_read(digits, workers, tensors):
    loader = build_loader(digits, EVALUATION, batch_size=64, num_workers=workers, tensors=tensors)
    batches = list(loader)
    for batch in batches:
        expected = [EVALUATION(digits[i].image) for i in batch.indices]
        assert np.array_equal(np.asarray(batch.images), np.stack(expected))
    loader.close()


@pytest.mark.parametrize("workers", [0, 2])
def test_bad_image_is_a_message_with_file_and_line(spoilt, workers, capfd):
    loader = build_loader(spoilt, EVALUATION, batch_size=2, num_workers=workers)
    seen = []
    with pytest.raises(DataError, match=r"list\.txt:7: '.*6\.png' is not an image") as caught:
        seen.extend(batch.indices.tolist() for batch in loader)
    assert "Traceback" not in str(caught.value) + capfd.readouterr().err
    assert seen == [[0, 1], [2, 3], [4, 5]]  # what came before is not lost


@pytest.mark.parametrize("workers", [0, 2])
def test_bad_images_are_left_out_on_request(spoilt, workers):
    failures = []
    loader = build_loader(spoilt, EVALUATION, batch_size=2, num_workers=workers, on_failure=failures.append)
    images, labels, indices = read(loader)
    assert indices.tolist() == [0, 1, 2, 3, 4, 5, 7, 8, 9]
    assert labels.tolist() == [0, 1, 2, 0, 1, 2, 1, 2, 0]
    assert len(images) == 9
    assert [(failure.index, failure.name) for failure in failures] == [(6, "6.png")]
    single = build_loader(spoilt, EVALUATION, batch_size=1, num_workers=workers, on_failure=failures.append)
    assert len(read(single)[2]) == 9  # a batch of bad images only is no batch
    assert len(failures) == 2
    loader.close()
    single.close()


class Faulty:
    """A transform with a mistake of its own, for one image."""

    def __call__(self, image, rng):
        if np.asarray(image)[0, 0] == 40:
            raise ZeroDivisionError("a mistake")
        return EVALUATION(image)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_mistake_of_the_program_keeps_its_traceback(spoilt, workers):
    loader = build_loader(
        spoilt, Faulty(), batch_size=2, num_workers=workers, on_failure=lambda failure: None
    )
    with pytest.raises(RuntimeError, match=r"list\.txt:3: ZeroDivisionError: a mistake(.|\n)*in __call__"):
        list(loader)


def test_a_transforms_refusal_names_the_image(tmp_path):
    Image.fromarray(np.ones((9, 9), dtype=np.float32)).save(tmp_path / "f.tif")
    (tmp_path / "list.txt").write_text("f.tif 0\n")
    source = ListFile(tmp_path, tmp_path / "list.txt")
    with pytest.raises(DataError, match=r"list\.txt:1: 'f\.tif': holds floating-point numbers"):
        list(build_loader(source, EVALUATION, batch_size=1))


class Deadly:
    """A transform that ends its process, as the kernel does when memory runs out."""

    def __call__(self, image, rng):
        if np.asarray(image)[0, 0] == 80:
            os.kill(os.getpid(), signal.SIGKILL)
        return EVALUATION(image)


@pytest.mark.parametrize("seconds", [0.0, 0.2])
def test_a_killed_worker_is_an_error_of_the_loader_and_no_hang(spoilt, seconds):
    loader = build_loader(spoilt, Deadly(), batch_size=1, num_workers=2, on_failure=lambda failure: None)
    with pytest.raises(DataError, match=r"process that reads images ended.*--workers 0"):
        # What is done with a batch must not be interrupted by a worker's death.
        [time.sleep(seconds) for _ in loader]


def test_fewer_images_than_a_batch(digits):
    loader = build_loader(digits, EVALUATION, batch_size=1000)
    assert len(loader) == 1
    assert len(next(iter(loader)).labels) == 359
    with pytest.warns(
        UserWarning, match="359 images are fewer than one batch of 1000: the one smaller batch is kept"
    ):
        loader = build_loader(digits, EVALUATION, batch_size=1000, drop_last=True)
    assert [len(batch.labels) for batch in loader] == [359]


def test_drop_last_leaves_out_the_rest(digits):
    loader = build_loader(digits, EVALUATION, batch_size=100, drop_last=True)
    assert len(loader) == 3
    assert [len(batch.labels) for batch in loader] == [100] * 3


def test_without_labels_there_are_none(tmp_path):
    Image.new("L", (9, 9)).save(tmp_path / "a b.png")
    (tmp_path / "list.txt").write_text("a b.png\n")
    source = ListFile(tmp_path, tmp_path / "list.txt", mode="test")
    for workers in (0, 1):
        batch = next(iter(build_loader(source, EVALUATION, batch_size=4, num_workers=workers)))
        assert batch.labels is None
        assert batch.images.shape == (1, 1, 12, 12)


def test_little_shared_memory_is_said_and_gone_around(digits, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(2**20, 2**20, 0))
    loader = build_loader(digits, EVALUATION, batch_size=64, num_workers=2)
    with pytest.warns(UserWarning, match=r"/dev/shm has 0 MiB free.*through pipes"):
        through_pipes = read(loader)
    loader.close()
    assert same(through_pipes, read(build_loader(digits, EVALUATION, batch_size=64)))


def test_enough_shared_memory_is_used_silently(digits):
    loader = build_loader(digits, EVALUATION, batch_size=64, num_workers=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.filterwarnings("ignore", message="No ccache found")  # Paddle, when it is imported first here
        list(loader)
    loader.close()


@pytest.mark.parametrize(("option", "value"), [("batch_size", 0), ("num_workers", -1), ("seed", -3)])
def test_impossible_numbers(digits, option, value):
    with pytest.raises(ConfigError, match=f"{option} is {value}"):
        build_loader(digits, EVALUATION, **{"batch_size": 2, option: value})


STOPPED_AT_THE_START = """
import functools, os, signal, time, numpy as np, paddle
from cyclemlp.data.loader import begin_worker, iterate_without_signals

class Numbers(paddle.io.Dataset):
    def __len__(self): return 8
    def __getitem__(self, index): return np.full(1, index)

def begin(number):
    time.sleep(1)
    begin_worker(number)

heard = []
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, lambda number, frame: heard.append(number))
engine = paddle.io.DataLoader(Numbers(), batch_size=2, num_workers=2, worker_init_fn=begin, timeout=20)
batches = iterate_without_signals(functools.partial(iter, engine))
time.sleep(0.5)
for number in (signal.SIGTERM, signal.SIGINT):
    os.killpg(0, number)
print(sorted(int(value) for batch in batches for value in np.ravel(batch)), len(heard))
"""


def test_a_signal_to_the_group_does_not_end_workers_that_are_just_beginning():
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", STOPPED_AT_THE_START],
        capture_output=True,
        text=True,
        start_new_session=True,
        timeout=120,
        check=False,
    )
    assert done.stdout.splitlines()[-1:] == ["[0, 1, 2, 3, 4, 5, 6, 7] 2"], done.stderr
