"""A stand-in for ImageNet, laid out exactly as it is downloaded, unpacked and listed, and models that know it.

There are 1000 classes with one training image each, and twelve validation images. An image is 32 pixels of one
colour. The devkit numbers the classes in an order that is not the sorted one.
"""

from __future__ import annotations

import io
import tarfile
from functools import cache
from pathlib import Path

import numpy as np
import paddle
from PIL import Image
from scipy.io import savemat

import cyclemlp
from cyclemlp.data import imagenet_class_map

IDS = sorted(imagenet_class_map())
#: Classes of the validation images 1, 2, …; no two are the same.
VALIDATION = (417, 3, 999, 0, 88, 650, 12, 731, 274, 561, 940, 126)
#: Of these numbers of images the models give the right class second, and of those not among the first five.
SECOND, WRONG = (2, 7), (10,)
TOP1, TOP5 = 100 * 9 / 12, 100 * 11 / 12
#: The devkit's number of class 0, 1, …
DEVKIT_NUMBERS = (np.random.default_rng(7).permutation(1000) + 1).tolist()
DEVKIT = "ILSVRC2012_devkit_t12"
TRUTH = "ILSVRC2012_validation_ground_truth.txt"


@cache
def image(number: int) -> bytes:
    """A JPEG file of one colour."""
    colour = tuple(np.random.default_rng(number).integers(0, 256, 3).tolist())
    file = io.BytesIO()
    Image.new("RGB", (32, 32), colour).save(file, "JPEG", quality=95, subsampling=0)
    return file.getvalue()


def validation_name(number: int) -> str:
    return f"ILSVRC2012_val_{number:08d}.JPEG"


def validation_images() -> dict[str, bytes]:
    """Name → content of the validation images."""
    return {validation_name(n): image(5000 + n) for n in range(1, len(VALIDATION) + 1)}


def training_images() -> dict[str, bytes]:
    """`n01440764/n01440764_10.JPEG` → content."""
    return {f"{i}/{i}_{number % 90}.JPEG": image(number) for number, i in enumerate(IDS)}


def write_tar(path: Path, files: dict[str, bytes], mode: str = "w") -> Path:
    """A tar of these files, in this order."""
    with tarfile.open(path, mode) as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def tar_of(files: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return file.getvalue()


def training_tars() -> dict[str, bytes]:
    """The members of the training tar, in no order."""
    images = sorted(training_images().items(), key=lambda item: item[0][::-1])
    return {f"{name.split('/')[0]}.tar": tar_of({name.split("/")[1]: content}) for name, content in images}


def meta_mat(numbers: list[int] | None = None, ids: list[str] | None = None) -> bytes:
    """The devkit's table of classes, with three nodes above them as it has 860."""
    numbers, ids = (
        [*(numbers or DEVKIT_NUMBERS), 1001, 1002, 1003],
        [*(ids or IDS), "n00001740", "n00001930", "n00002684"],
    )
    fields = [
        "ILSVRC2012_ID",
        "WNID",
        "words",
        "gloss",
        "num_children",
        "children",
        "wordnet_height",
        "num_train_images",
    ]
    synsets = np.empty((len(ids), 1), dtype=[(name, object) for name in fields])
    for row, number in enumerate(np.argsort(numbers)):
        synsets[row, 0] = (
            float(numbers[number]),
            ids[number],
            "words",
            "gloss",
            0.0,
            np.empty((1, 0)),
            0.0,
            1300.0,
        )
    file = io.BytesIO()
    savemat(file, {"synsets": synsets})
    return file.getvalue()


def ground_truth(labels: tuple[int, ...] = VALIDATION) -> bytes:
    return "".join(f"{DEVKIT_NUMBERS[label]}\n" for label in labels).encode()


def devkit_files(labels: tuple[int, ...] = VALIDATION) -> dict[str, bytes]:
    return {
        f"{DEVKIT}/readme.txt": b"-",
        f"{DEVKIT}/data/meta.mat": meta_mat(),
        f"{DEVKIT}/data/{TRUTH}": ground_truth(labels),
    }


def write_files(folder: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def build(folder: Path) -> Path:
    """`tar/`, `folders/`, `list/` and `flat/` in `folder`: the four forms."""
    for form in ("tar", "folders", "list", "flat"):
        (folder / form).mkdir(parents=True)
    write_tar(folder / "tar/ILSVRC2012_img_train.tar", training_tars())
    backwards = dict(reversed(validation_images().items()))
    write_tar(folder / "tar/ILSVRC2012_img_val.tar", backwards)
    write_tar(folder / f"tar/{DEVKIT}.tar.gz", devkit_files(), "w:gz")

    write_files(folder / "folders/train", training_images())
    of_class = dict(zip(validation_images(), VALIDATION, strict=True))
    write_files(
        folder / "folders/val", {f"{IDS[of_class[n]]}/{n}": c for n, c in validation_images().items()}
    )

    (folder / "list/train").symlink_to(folder / "folders/train")
    write_files(folder / "list/val", validation_images())
    lines = (f"train/{name} {IDS.index(name.split('/')[0])}\n" for name in training_images())
    (folder / "list/train_list.txt").write_text("".join(lines))
    (folder / "list/val_list.txt").write_text(
        "".join(f"val/{name} {label}\n" for name, label in of_class.items())
    )

    write_files(folder / "flat/val", validation_images())
    write_files(folder / "flat", devkit_files())
    return folder


def write_knowing_model(name: str, path: Path) -> Path:
    """Weights of a network whose top-1 and top-5 on the stand-in are `TOP1` and `TOP5`, to the digit.

    It is the variant as it is initialised, which gives every colour features of its own; the head holds those of
    each validation image beside the class that it is to answer: the nearest features win.
    """
    paddle.seed(3)
    model = cyclemlp.create_model(name)
    model.eval()
    size = model.metadata.preprocessing.input_size
    mean, std = np.asarray(model.metadata.preprocessing.mean), np.asarray(model.metadata.preprocessing.std)
    pixels = [
        np.asarray(Image.open(io.BytesIO(content)))[0, 0] / 255 for content in validation_images().values()
    ]
    with paddle.no_grad():
        colours = paddle.to_tensor(((np.stack(pixels) - mean) / std).astype("float32"))
        images = colours.reshape([-1, 3, 1, 1]).expand([-1, 3, size, size])
        model.head.weight.set_value(paddle.eye(model.config.embed_dims[-1], 1000))
        model.head.bias.set_value(paddle.zeros([1000]))
        features = model(images)[:, : model.config.embed_dims[-1]].numpy().astype("float64")
    scale = 10 / min(np.square(features[i] - features[j]).sum() for i in range(12) for j in range(i))
    weight, bias = np.zeros((features.shape[1], 1000)), np.full(1000, -1e6)
    free = (index for index in range(1000) if index not in VALIDATION)
    for number, (feature, label) in enumerate(zip(features, VALIDATION, strict=True), 1):
        answers = [label]
        if number in SECOND:
            answers = [next(free), label]
        if number in WRONG:
            answers = [next(free) for _ in range(6)]
            bias[label] = -2e6
        for place, answer in enumerate(answers):
            weight[:, answer] = scale * feature
            bias[answer] = -scale * np.square(feature).sum() / 2 - place / 100
    model.head.weight.set_value(weight.astype("float32"))
    model.head.bias.set_value(bias.astype("float32"))
    cyclemlp.save_model(model, path)
    return path
