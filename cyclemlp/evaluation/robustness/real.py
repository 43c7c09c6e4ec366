"""ReaL: reassessed labels of ImageNet's validation images (Beyer et al. 2020, arXiv 2006.07159)."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np

from cyclemlp.data import Loader, Source
from cyclemlp.data.classes import PathLike, read_text
from cyclemlp.data.imagenet import VALIDATION_NAME
from cyclemlp.errors import DataError
from cyclemlp.evaluation.robustness.results import SetResult
from cyclemlp.evaluation.robustness.sets import IMAGENET_CLASSES, VALIDATION_IMAGES
from cyclemlp.evaluation.run import Classifier, predict
from cyclemlp.text import counted, part_of


def read_real_labels(path: PathLike, *, partial: bool = False) -> list[frozenset[int]]:
    """The labels of `real.json`: of each validation image the classes that are right; empty where none is.

    Args:
        path: a JSON list of lists of class numbers, one an image from ILSVRC2012_val_00000001 on.
        partial: any number of images will do.

    Raises:
        DataError: not such a file; it names the entry, counted from 1 as the images are. Without `partial`: the
            entries are not 50,000.
    """
    try:
        entries = json.loads(read_text(path))
    except ValueError as error:
        raise DataError(f"{path}: is not JSON ({error}); expected ReaL's real.json") from error
    if not isinstance(entries, list):
        raise DataError(f"{path}: is a JSON {type(entries).__name__}; expected ReaL's list of lists")
    for number, entry in enumerate(entries, 1):
        if not isinstance(entry, list) or not all(
            type(label) is int and 0 <= label < IMAGENET_CLASSES for label in entry
        ):
            raise DataError(
                f"{path}: entry {number} is {json.dumps(entry)[:60]}; expected a list of classes from 0 to 999"
            )
    if len(entries) != VALIDATION_IMAGES and not partial:
        raise DataError(
            f"{path}: has {counted(len(entries), 'entry')}; ReaL's real.json has one for each of the "
            f"{VALIDATION_IMAGES:,} validation images. Fetch it again, or give --partial to measure with what is there"
        )
    return [frozenset(entry) for entry in entries]


def validation_numbers(source: Source, count: int, *, partial: bool = False) -> np.ndarray:
    """Which of ImageNet's validation images each image of a source is, by its name: int64 [N], from 1.

    Args:
        source: images named ILSVRC2012_val_00000001.JPEG and so on, in any folders and order.
        count: how many there are.
        partial: some of them will do.

    Raises:
        DataError: another name, a number above `count`, an image twice, or some missing without `partial`.
    """
    numbers = np.zeros(len(source), dtype=np.int64)
    places: dict[int, int] = {}
    for index in range(len(source)):
        match = VALIDATION_NAME.fullmatch(source.name(index))
        number = int(match[1]) if match else 0
        if not 1 <= number <= count:
            raise DataError(
                f"{source.location(index)}: {source.name(index)!r} is not one of the {counted(count, 'image')} that "
                f"the labels are for: ILSVRC2012_val_00000001.JPEG to ILSVRC2012_val_{count:08d}.JPEG"
            )
        if number in places:
            raise DataError(
                f"{source.location(index)}: {source.name(index)!r} is there twice, first at "
                f"{source.location(places[number])}"
            )
        places[number], numbers[index] = index, number
    if len(places) < count and not partial:
        first = next(number for number in range(1, count + 1) if number not in places)
        raise DataError(
            f"{len(places):,} of ImageNet's {counted(count, 'validation image')} are there; "
            f"ILSVRC2012_val_{first:08d}.JPEG is missing. Complete them, or give --partial to measure what is there"
        )
    return numbers


def evaluate_real(
    fn: Classifier, loader: Loader, numbers: np.ndarray, real: Sequence[frozenset[int]]
) -> list[SetResult]:
    """Accuracy by the original labels, and by ReaL's (Beyer et al. 2020, arXiv 2006.07159), in one pass.

    An answer is right if it is one of the image's labels. Images that have none are left out.

    Args:
        fn: as for `evaluate`.
        loader: of ImageNet's validation images, or some of them.
        numbers: which of them each image of the source is, from 1: int [N].
        real: the labels of each, from `read_real_labels`.

    Returns:
        By the source's own labels, if it has any, and by ReaL's.

    Raises:
        DataError: no image has a label; otherwise as `predict`.
    """
    right = labelled = 0
    own: list[tuple[bool, bool]] = []
    for prediction in predict(fn, loader, progress=False):
        labels = real[int(numbers[prediction.index]) - 1]
        if labels:
            labelled += 1
            right += prediction.indices[0] in labels
        if prediction.label is not None:
            own.append((prediction.indices[0] == prediction.label, prediction.label in prediction.indices))
    if not labelled:
        raise DataError("none of the images has a ReaL label, so there is nothing to compare with")
    left_out = len(numbers) - labelled
    notes = [
        f"ReaL: {part_of(left_out, len(numbers), 'image', 'has no label and is', 'have no label and are')} left out"
    ]
    if len(numbers) < VALIDATION_IMAGES:
        notes.append(f"ReaL is incomplete: {counted(len(numbers), 'image')} instead of {VALIDATION_IMAGES:,}")
    by_real = SetResult("ReaL", labelled, IMAGENET_CLASSES, 100 * right / labelled, None, tuple(notes))
    if not own:
        return [by_real]
    top1, top5 = (100 * float(np.mean(hits)) for hits in zip(*own, strict=True))
    return [SetResult("clean", len(own), IMAGENET_CLASSES, top1, top5), by_real]
