"""Teachers by name, with weights that must be given and must fit.

K classes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from paddle import nn
from paddle.vision import models as vision

from cyclemlp.errors import ModelError, WeightsError
from cyclemlp.metadata import MULTI_LABEL
from cyclemlp.models import create_model, fill, load_model
from cyclemlp.network import VARIANTS, canonical_name
from cyclemlp.network.config import did_you_mean
from cyclemlp.preprocessing import Preprocessing
from cyclemlp.teachers.regnet import REGNETX, RegNet, published_url, without_convolution_biases
from cyclemlp.teachers.teacher import Teacher
from cyclemlp.text import counted
from cyclemlp.weights import WeightFile, pretrained_file, pretrained_tags, read_weights

#: Functions of paddle.vision.models, and LeNet, which is a class and reads greyscale images.
_VISION: dict[str, Callable[..., nn.Layer]] = {
    name: getattr(vision, name) for name in vision.__all__ if name == name.lower()
} | {"lenet": vision.LeNet}
_GREY = Preprocessing(input_size=28, mean=(0.5,), std=(0.5,))


def list_teachers() -> list[str]:
    """Names that `create_teacher` takes, in lower case."""
    return [*REGNETX, *VARIANTS, *_VISION]


def create_teacher(
    name: str,
    weights: str | os.PathLike[str] | None = None,
    *,
    num_classes: int,
    images: Preprocessing | None = None,
    classes: Sequence[str] | None = None,
    layout: str | None = None,
) -> Teacher:
    """Make a teacher. Its weights must be given and must fit in every tensor: there is no random teacher.

    Args:
        name: one of `list_teachers()`, in any case: RegNetX_4GF and the other sizes, any CycleMLP, a model of
            `paddle.vision.models` with its default arguments; or a run's folder or file of ours, which knows its
            model.
        weights: weight file in any form that `cyclemlp.weights` reads, or a run's folder of ours. For a CycleMLP
            "published" and "cifar10" are as in `cyclemlp.create_model`. None if `name` is a folder or file.
        num_classes: of the student.
        images: the student's preprocessing. What the teacher gets is renormalised to its own: ImageNet's mean and
            standard deviation (LeNet: 0.5), or what a file of ours says.
        classes: the student's class names; compared with those that a file of ours has.
        layout: "authors" or "paddle", for the rare file whose tensors do not tell.

    Raises:
        ModelError: unknown name; channels that do not fit.
        WeightsError: no weights, or they cannot be read, do not fit, are of another model, number or order of classes.
    """
    known = canonical_name(name)
    if known in list_teachers():
        file = _read(known, weights, layout)
    elif not Path(name).exists():
        raise ModelError(
            f"unknown teacher {name!r}{did_you_mean(known, list_teachers())}, and there is no such run or file; the "
            f"known ones are {', '.join(list_teachers())}"
        )
    elif weights is not None:
        raise ModelError(
            f"the teacher {name!r} is a file, so the weights {weights} are one too many; give either"
        )
    else:
        file = read_weights(Path(name), layout=layout)
        if "model" not in file.metadata:
            raise WeightsError(
                f"the teacher's file {file.path} does not name its model; give the model's name as the teacher and "
                "this file as its weights"
            )
        known = canonical_name(file.metadata["model"])
    network, preprocessing, lines = _build(known, file, num_classes)
    lines += _check_classes(file, classes)
    if images is not None and images.input_size != preprocessing.input_size:
        lines.append(f"made for {preprocessing.size_text} pixels, gets {images.size_text}")
    if images is not None and (images.mean, images.std) != (preprocessing.mean, preprocessing.std):
        lines.append(f"images are renormalised to its mean {preprocessing.mean}, std {preprocessing.std}")
    return Teacher(
        known,
        network,
        preprocessing,
        num_classes=num_classes,
        images=images,
        summary="\n  ".join([f"teacher {known}: {lines[0]}", *lines[1:]]),
    )


def _read(name: str, weights: str | os.PathLike[str] | None, layout: str | None) -> WeightFile:
    """The file for a known teacher. Raises WeightsError that says where one is to be had."""
    if weights is None:
        raise WeightsError(
            f"the teacher {name} has no weights, and a random one would teach nothing: {_where(name)}"
        )
    if name in VARIANTS:
        weights = pretrained_file(name, weights)
    if not Path(weights).exists():
        raise WeightsError(
            f"{weights}: the weights of the teacher {name} are not there (no such file or folder): {_where(name)}"
        )
    file = read_weights(Path(weights), layout=layout)
    found = file.metadata.get("model")
    if found is not None and canonical_name(found) != name:
        raise WeightsError(
            f"{file.path} holds a {found}, and the teacher asked for is {name}; name the right one, or give the "
            "file as the teacher itself"
        )
    return file


def _where(name: str) -> str:
    if name in REGNETX:
        url = published_url(name)
        return f"PaddleClas publishes {url.rpartition('/')[2]} at {url}; fetch it and give its path"
    if name in VARIANTS:
        tags = "".join(f'"{tag}", ' for tag in pretrained_tags(name))
        return f"give {tags}a weight file, or the folder of a `cyclemlp train` run"
    if name == "lenet":
        return "give a weight file (paddle.save of its state_dict)"
    return (
        f'give a weight file; what Paddle publishes of {name} for 1000 classes is written by\n  python -c "import '
        f"paddle; paddle.save(paddle.vision.models.{name}(pretrained=True).state_dict(), '{name}.pdparams')\""
    )


def _build(name: str, file: WeightFile, num_classes: int) -> tuple[nn.Layer, Preprocessing, list[str]]:
    """The network with the file's tensors, what it was trained with, and lines for people."""
    if "model" in file.metadata:
        model = load_model(file)
        config = model.config
        if config.features_only or not config.num_classes:
            raise WeightsError(f"{file.path} holds a {name} without a head; a teacher must know classes")
        if config.num_classes != num_classes:
            raise _other_classes(file, name, config.num_classes, num_classes)
        if model.metadata.task == MULTI_LABEL:
            raise WeightsError(
                f"{file.path} gives an image any number of labels; a teacher must give probabilities of one class"
            )
        return (
            model,
            model.metadata.preprocessing,
            [f"{counted(len(file.tensors), 'tensor')} loaded from {file.path}"],
        )
    network: nn.Layer
    preprocessing = Preprocessing()
    if name in REGNETX:
        network = RegNet(REGNETX[name], num_classes)
        file = without_convolution_biases(file)
    elif name in VARIANTS:
        network = create_model(name, num_classes=num_classes)
        preprocessing = network.metadata.preprocessing
    else:
        network = _VISION[name](num_classes=num_classes)
        preprocessing = _GREY if name == "lenet" else preprocessing
    if (found := _classes_of(file, network, num_classes)) is not None:
        raise _other_classes(file, name, found, num_classes)
    return network, preprocessing, str(fill(network, file)).split("\n  ")


def _classes_of(file: WeightFile, network: nn.Layer, num_classes: int) -> int | None:
    """The file's number of classes, if that is all in which it differs from the network."""
    state = network.state_dict()
    if state.keys() != file.tensors.keys():
        return None
    differing = set()
    for name, tensor in state.items():
        if tensor.ndim != file.tensors[name].ndim:
            return None
        pairs = zip(tensor.shape, file.tensors[name].shape, strict=True)
        differing |= {(wanted, found) for wanted, found in pairs if wanted != found}
    if len(differing) != 1:
        return None
    ((wanted, found),) = differing
    return found if wanted == num_classes else None


def _other_classes(file: WeightFile, name: str, found: int, wanted: int) -> WeightsError:
    return WeightsError(
        f"the teacher {name} in {file.path} knows {counted(found, 'class')} and the student has {wanted}; a teacher "
        "must be trained on the student's classes, so train or fine-tune one on these images first"
    )


def _check_classes(file: WeightFile, classes: Sequence[str] | None) -> list[str]:
    """Lines for people about class names that differ. Raises WeightsError for the same ones in another order."""
    theirs = file.metadata.get("classes")
    if not classes or not theirs or list(classes) == list(theirs):
        return []
    if sorted(classes) == sorted(theirs):
        k = next(k for k, (a, b) in enumerate(zip(classes, theirs, strict=True)) if a != b)
        raise WeightsError(
            f"the teacher in {file.path} has the student's classes in another order: its class {k} is {theirs[k]!r}, "
            f"the student's {classes[k]!r}"
        )
    return [
        f"its class names are not the student's ({', '.join(theirs[:3])} …); taken to be the same classes in order"
    ]
