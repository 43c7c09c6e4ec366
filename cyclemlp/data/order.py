"""Which images an epoch shows, in which order, in which batch, on which rank; and what each of them draws."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np

from cyclemlp.errors import ConfigError
from cyclemlp.text import counted

# First words of the seeds, so that no two uses draw the same numbers. `mixup.STEP` is the third.
ORDER, SAMPLE = 1, 2

Key = tuple[int, int, int]  # epoch, index, copy: all that an image's augmentation depends on, beside the seed


class Draws:
    """The random numbers of each image, which depend on the seed and its key only.

    They are Philox's (Salmon et al., 2011), whose key is the seed and whose counter begins at the image's key: setting
    it takes a microsecond, and a new generator would take as long as decoding a small image.

    Args:
        seed: of the run, from 0.
    """

    def __init__(self, seed: int) -> None:
        self._philox = np.random.Philox(np.random.SeedSequence([SAMPLE, seed]))
        self._rng, self._state = np.random.Generator(self._philox), self._philox.state

    def __call__(self, key: Key) -> np.random.Generator:
        """A generator for one image, good until the next is asked for."""
        self._state["state"]["counter"] = np.array([0, *key], np.uint64)
        self._philox.state = self._state
        return self._rng


class EpochOrder:
    """An epoch's batches as lists of (epoch, index, copy); `epoch` and `first_batch` may be set.

    The order is drawn once for all ranks. Step s takes the next batch_size · world_size places of it, of which
    rank r has every world_size-th from the r-th on: so several ranks together read what one rank with the whole
    batch would.

    * Shuffled, for training: every rank has as many steps, and in each step as many images. Where the last
      batch's number does not divide by the ranks, it is filled up from the epoch's beginning.
    * In order, for evaluation: every image exactly once, nothing is filled up. Ranks may differ by one batch.
    * With `repeats` (Hoffer et al. 2020, arXiv 1901.09335; the authors' 3) an image comes that often in a row, each
      time augmented anew, on different ranks where there are several. An epoch still has as many places as there
      are images, so it shows a third of them, another third in the next: as the authors', whose epoch is
      the same rounded down to a multiple of 256 (and empty for fewer images, which this one is not).
    * With `weights` each place of an epoch is drawn by itself, an image by its share of the weights: some images come
      several times, each time augmented anew, and others do not come. An epoch still has as many places.
    """

    def __init__(
        self,
        size: int,
        batch_size: int,
        *,
        shuffle: bool = False,
        drop_last: bool = False,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        repeats: int = 1,
        weights: np.ndarray | None = None,
    ) -> None:
        for name, value, least in (
            ("batch_size", batch_size, 1),
            ("seed", seed, 0),
            ("world_size", world_size, 1),
            ("repeats", repeats, 1),
        ):
            if value < least:
                raise ConfigError(f"{name} is {value}; give a whole number from {least}")
        if not 0 <= rank < world_size:
            raise ConfigError(f"rank is {rank}; of {world_size} ranks it must be from 0 to {world_size - 1}")
        if repeats > 1 and not shuffle:
            raise ConfigError(f"repeats is {repeats}; only shuffled images, for training, can be repeated")
        if weights is not None:
            if repeats > 1 or not shuffle:
                raise ConfigError(
                    f"weights are given with shuffle {shuffle} and repeats {repeats}; only shuffled images that are "
                    "not repeated can be drawn by weights"
                )
            weights = np.asarray(weights, dtype=np.float64)
            if len(weights) != size or not (weights >= 0).all() or not 0 < weights.sum() < np.inf:
                raise ConfigError(
                    f"there are {counted(len(weights), 'weight')} for {counted(size, 'image')}; give each a number "
                    "from 0"
                )
            weights = weights / weights.sum()
        self._shares = weights
        self.size, self.batch_size, self.seed, self.repeats = size, batch_size, seed, repeats
        self.shuffle, self.rank, self.world_size = shuffle, rank, world_size
        self.epoch = self.first_batch = 0
        together = batch_size * world_size
        self._together = together
        self._places = size
        if drop_last and size >= together:
            self._places = size // together * together
        elif drop_last and size:
            ranks = f" ({world_size} ranks with {batch_size} each)" if world_size > 1 else ""
            warnings.warn(
                f"{counted(size, 'image is', 'images are')} fewer than one batch of {together}{ranks}: the one smaller "
                "batch is kept",
                stacklevel=3,
            )
        if shuffle:
            self._places = -(-self._places // world_size) * world_size

    def __len__(self) -> int:
        """Number of this rank's batches, counted from the epoch's first."""
        whole, rest = divmod(self._places, self._together)
        return whole + (rest > self.rank)

    @property
    def images(self) -> int:
        """Number of this rank's images in an epoch."""
        return len(range(self.rank, self._places, self.world_size))

    def __iter__(self) -> Iterator[list[Key]]:
        epoch, order = self.epoch, np.arange(self.size)
        copies = np.zeros(self._places, dtype=np.int64)
        if self.shuffle:
            rng = np.random.default_rng([ORDER, self.seed, epoch])
            if self._shares is None:
                order = np.repeat(rng.permutation(self.size), self.repeats)[: self.size]
            else:
                order = rng.choice(self.size, self.size, p=self._shares)
            order = np.resize(order, self._places)
            copies = np.arange(self._places) % self.repeats if self._shares is None else _occurrences(order)
        for batch in range(self.first_batch, len(self)):
            start = batch * self._together
            places = range(start + self.rank, min(start + self._together, self._places), self.world_size)
            yield [(epoch, int(order[place]), int(copies[place])) for place in places]


def _occurrences(order: np.ndarray) -> np.ndarray:
    """How often each item of an array came before it, int64."""
    by_item = np.argsort(order, kind="stable")
    begins = np.flatnonzero(np.diff(order[by_item], prepend=-1))
    lengths = np.diff(begins, append=len(order))
    counts = np.empty_like(by_item)
    counts[by_item] = np.arange(len(order)) - np.repeat(begins, lengths)
    return counts


def balanced(labels: np.ndarray) -> np.ndarray:
    """Weights of images by which each class that has some is drawn as often as any other: float64 [N].

    Args:
        labels: the images' classes, int [N], from 0.
    """
    return 1 / np.bincount(labels)[labels]
