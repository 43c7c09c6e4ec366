"""CIFAR-10 and CIFAR-100 from their official archives, as tars of class folders that everything here reads.

The archives hold pickles, which are programs. They are read as data here (`cyclemlp.weights.unpickle`): nothing of
them is run.

Source: Learning Multiple Layers of Features from Tiny Images, Krizhevsky, 2009.
"""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cyclemlp.data.classes import PathLike
from cyclemlp.errors import DataError, WeightsError
from cyclemlp.files import replacing
from cyclemlp.text import counted
from cyclemlp.weights.records import PickledArray, constructors
from cyclemlp.weights.unpickle import read_pickle

SIDE = 32
#: Bytes of a batch: CIFAR-100's 50,000 images and their names take 155 MB.
MAX_BYTES = 2**28
#: Part → the members of an archive that it is made of; `meta` has the classes' names.
MEMBERS = {
    "train": re.compile(r"data_batch_[1-9]|train"),
    "test": re.compile(r"test_batch|test"),
    "meta": re.compile(r"batches\.meta|meta"),
}
PARTS = ("train", "test")


@dataclass(frozen=True)
class CifarPart:
    """Some images of CIFAR.

    Attributes:
        images: uint8 [N, 32, 32, 3], RGB.
        labels: int64 [N].
        classes: names in class order.
    """

    images: np.ndarray
    labels: np.ndarray
    classes: list[str]


def read_cifar(path: PathLike) -> dict[str, CifarPart]:
    """The training and the test images of `cifar-10-python.tar.gz` or `cifar-100-python.tar.gz`.

    Args:
        path: the archive. CIFAR-100's images have their fine labels.

    Returns:
        "train" and "test".

    Raises:
        DataError: no such file, damaged, or another archive; it names the member.
    """
    path = Path(path)
    found: dict[str, dict[str, Mapping[str, Any]]] = {part: {} for part in MEMBERS}
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                name = Path(member.name).name
                part = next((part for part, names in MEMBERS.items() if names.fullmatch(name)), None)
                if part is None or not member.isfile():
                    continue
                if member.size > MAX_BYTES:
                    raise DataError(f"{path}: {name} has {member.size:,} bytes, more than a batch of CIFAR")
                content = archive.extractfile(member)
                found[part][name] = _read_batch(content.read() if content else b"", f"{path}: {name}")
    except (OSError, EOFError, tarfile.TarError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path}: cannot be read as an archive of CIFAR: {reason}") from error
    missing = [part for part, batches in found.items() if not batches]
    if missing:
        raise DataError(
            f"{path}: has no {' and no '.join(missing)} batch; expected cifar-10-python.tar.gz or "
            "cifar-100-python.tar.gz"
        )
    classes = _classes(found["meta"], path)
    return {part: _part(found[part], classes, path) for part in PARTS}


def write_class_tar(part: CifarPart, path: Path, on_image: Callable[[], Any] = lambda: None) -> None:
    """Write the images as PNG files, which lose nothing: `train/cat/00042.png` in `train.tar`; whole or not at all.

    Args:
        part: the images.
        path: its name without `.tar` is that of the outer folder. The same images give the same bytes.
        on_image: called after each image.
    """
    with replacing(path) as temporary, tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as tar:
        for index, (image, label) in enumerate(zip(part.images, part.labels.tolist(), strict=True)):
            encoded = io.BytesIO()
            Image.fromarray(image).save(encoded, "png")
            member = tarfile.TarInfo(f"{path.stem}/{part.classes[label]}/{index:05d}.png")
            member.size = len(encoded.getvalue())
            encoded.seek(0)
            tar.addfile(member, encoded)
            on_image()


def _read_batch(content: bytes, where: str) -> Mapping[str, Any]:
    """A pickled dict of plain values. Its texts, which Python 2 wrote, may be bytes or text."""
    try:
        values = read_pickle(io.BytesIO(content), constructors({}))
    except WeightsError as error:
        raise DataError(f"{where}: {error}") from error
    if not isinstance(values, dict):
        raise DataError(f"{where}: is no batch of CIFAR: it holds a {type(values).__name__}")
    return {_text(key): value for key, value in values.items()}


def _text(value: Any) -> str:
    return value.decode("latin1") if isinstance(value, bytes) else str(value)


def _classes(batches: Mapping[str, Mapping[str, Any]], path: Path) -> list[str]:
    ((name, values),) = list(batches.items())[:1]
    names = values.get("label_names", values.get("fine_label_names"))
    if not isinstance(names, list) or len(names) < 2 or len(set(map(_text, names))) != len(names):
        raise DataError(f"{path}: {name} does not have the names of the classes")
    texts = [_text(name) for name in names]
    for text in texts:
        if not re.fullmatch(r"\w+", text, re.ASCII):  # a folder is named like it
            raise DataError(f"{path}: {name} has a class named {text[:40]!r}")
    return texts


def _part(batches: Mapping[str, Mapping[str, Any]], classes: list[str], path: Path) -> CifarPart:
    images, labels = [], []
    for name, values in sorted(batches.items()):
        data, numbers = values.get("data"), values.get("labels", values.get("fine_labels"))
        if not isinstance(data, PickledArray) or not isinstance(numbers, list):
            raise DataError(f"{path}: {name} does not have images with labels")
        try:
            pixels = data.load()
        except WeightsError as error:
            raise DataError(f"{path}: {name}: {error}") from error
        if pixels.dtype != np.uint8 or pixels.shape != (len(numbers), 3 * SIDE * SIDE):
            raise DataError(
                f"{path}: {name} has an array of {pixels.dtype} {list(pixels.shape)} for "
                f"{counted(len(numbers), 'label')}; expected uint8 [{len(numbers)}, {3 * SIDE * SIDE}]"
            )
        if not all(isinstance(number, int) and 0 <= number < len(classes) for number in numbers):
            raise DataError(
                f"{path}: {name} has labels that are none of the {counted(len(classes), 'class')}"
            )
        images.append(pixels.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1))
        labels += numbers
    return CifarPart(
        np.ascontiguousarray(np.concatenate(images)), np.asarray(labels, dtype=np.int64), classes
    )
