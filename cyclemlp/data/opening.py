"""Images and classes by the names that people give them: "digits", a folder, a tar, a list, "imagenet"."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from cyclemlp.data.classes import imagenet_class_map, imagenet_classes, read_class_map, read_class_names
from cyclemlp.data.digits import Digits
from cyclemlp.data.imagenet import open_images
from cyclemlp.data.list_file import ListFile
from cyclemlp.data.pairing import View
from cyclemlp.data.sources import Files, Source
from cyclemlp.data.tars import TarListFile, is_tar
from cyclemlp.errors import ConfigError
from cyclemlp.text import counted, shown

#: Images in the package: name → tar. Of CIFAR-10 20 of each class, every 50th of its test images.
SAMPLES = {"cifar10-sample": Path(__file__).with_name("cifar10_sample.tar")}


def open_source(
    data: str | None,
    list_path: Path | None = None,
    *,
    mode: str,
    num_classes: int | None = None,
    class_map: str | None = None,
    names: Sequence[str] | None = None,
    multi_label: bool = False,
) -> Source:
    """The images that `--data`, `--list` and `--class-map` select.

    Args:
        data: "digits", a name of `SAMPLES`, a folder (`./digits` for a folder of that name), or a tar; None with a list
            for its own folder.
        list_path: a list file whose names are relative to `data`.
        mode: "train", "val" or "test"; which part of the data where they have parts, and how a list's lines are read
            ("test": the whole line is the name).
        num_classes: labels of a list from this number on are errors; None takes what the data says.
        class_map: a map's file, or "imagenet".
        names: class names in class order, for a list whose labels are names.
        multi_label: labels are tuples of classes; a list may give an image several. Else that is an error.

    Raises:
        DataError, ConfigError: with what to correct.
    """
    mapping = open_class_map(class_map)
    data = data_folder(data, list_path)
    if data == "digits":
        for option, value in (("--list", list_path), ("--class-map", class_map)):
            if value is not None:
                raise ConfigError(
                    f"{option} does not go with `--data digits`; a folder of that name is ./digits"
                )
        digits = Digits("train" if mode == "train" else "val")
        return View(digits, multi_label=True) if multi_label else digits
    if list_path is not None:
        listed = TarListFile if is_tar(data) else ListFile
        source: Files = listed(
            data,
            list_path,
            mode=mode,
            num_classes=num_classes,
            class_map=mapping,
            names=names,
            multi_label=multi_label,
        )
    else:
        source = open_images(data, mode, class_map=mapping, num_classes=num_classes)
    if mapping is not None and names is not None and source.num_classes == len(names):
        source.classes = list(names)  # the map says which class is which; its words are no other names
    return View(source, multi_label=True) if multi_label and list_path is None else source


def data_folder(data: str | None, list_path: Path | None) -> str:
    """`--data`, of a sample in the package its tar, or else the list's own folder. Raises ConfigError without any."""
    if data is None and list_path is None:
        raise ConfigError("no images are named: give --data digits, --data DIR or --list FILE")
    if data in SAMPLES:
        return str(SAMPLES[data])
    return str(Path(list_path or "").parent) if data is None else data


def open_class_map(name: str | None) -> dict[str, int] | None:
    """`--class-map`: a file's content, "imagenet" for the built-in one, None for none."""
    if name is None:
        return None
    return imagenet_class_map() if name == "imagenet" else read_class_map(name)


def open_class_names(name: str | None) -> list[str] | None:
    """`--classes`: a file's names, "imagenet" for the built-in ones, None for none."""
    if name is None:
        return None
    if name == "imagenet":
        return imagenet_classes()
    names = read_class_names(name)
    twice = [found for found, count in Counter(names).items() if count > 1]
    if twice:
        warnings.warn(
            f"{name}: {counted(len(twice), 'name is', 'names are')} given to several classes, which results cannot "
            f"tell apart: {', '.join(map(shown, twice[:3]))}",
            stacklevel=2,
        )
    return names
