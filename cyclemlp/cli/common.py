"""What options name, opened: each `open_…` and `choose_…` turns what was typed into the thing itself.

Paddle and the other rooms are imported when they are used, so that `--help` is quick.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cyclemlp.cli.options import FEW_IMAGES, MOST_WORKERS, resolve_pretrained
from cyclemlp.errors import ConfigError, DataError, ModelError, WeightsError
from cyclemlp.preprocessing import Preprocessing
from cyclemlp.shipped import find_config
from cyclemlp.text import counted, json_text, line_of, printable, raw_stream
from cyclemlp.yaml_files import top_keys

if TYPE_CHECKING:
    import numpy as np

    from cyclemlp.data import Loader, Source, Transform

# ---- what was typed → the thing


def model_overrides(texts: Sequence[str]) -> dict[str, Any]:
    """`--override`: key → value, read as YAML.

    Raises:
        ConfigError: no `=`, or the value is not YAML. Keys and values are judged where the model is made.
    """
    from cyclemlp.config import parse_assignments

    return parse_assignments(texts, option="--override")


def choose_workers(workers: int | None, source: Source, device: str | None = None) -> int:
    """`--workers` as typed, or a sensible number for this source and machine.

    With the device of a network that is only evaluated: on a processor it takes every core, and then one thread that
    reads ahead is faster than worker processes (`benchmarks/predict_overlap.py --workers 2`).
    """
    if workers is not None:
        return workers
    if len(source) < FEW_IMAGES or (device is not None and not device.startswith("gpu")):
        return 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    runs = int(os.environ.get("PADDLE_LOCAL_SIZE") or 1)  # of Paddle's launcher: they share the cores
    return min(MOST_WORKERS, max(1, cores // runs))


def choose_device(name: str | None) -> str:
    """Make `--device` Paddle's device and return its name; None keeps Paddle's own choice.

    Raises:
        ConfigError: this Paddle or this machine has no such device.
    """
    import paddle

    if name is None:
        return str(paddle.get_device())
    if name != "cpu" and not name.startswith("gpu"):
        raise ConfigError(f"--device is {name!r}; use cpu, gpu or gpu:N")
    if name.startswith("gpu") and not paddle.is_compiled_with_cuda():
        raise ConfigError(
            f"--device is {name!r}, but the installed Paddle is the CPU one; use --device cpu, or install "
            "paddlepaddle-gpu as https://www.paddlepaddle.org.cn/en/install/quick says"
        )
    try:
        paddle.set_device(name)  # which returns a place, not a name
        return str(paddle.get_device())
    except Exception as error:  # Paddle raises several kinds
        count = paddle.device.cuda.device_count() if paddle.is_compiled_with_cuda() else 0
        raise ConfigError(
            f"--device is {name!r}, which Paddle refuses; this machine has {count} GPUs: {error}"
        ) from error


def choose_preprocessing(own: Preprocessing, args: argparse.Namespace) -> Preprocessing:
    """The model's preprocessing with `--input-size`, `--crop-pct`, `--interpolation` and `--exif` on top."""
    given = {name: getattr(args, name) for name in ("input_size", "crop_pct", "interpolation", "exif")}
    return replace(own, **{name: value for name, value in given.items() if value is not None})


def open_model(args: argparse.Namespace) -> Any:
    """The Paddle model that the model arguments name, with its weights and its `metadata`.

    Raises:
        ConfigError: no model, or more than one, is named.
        WeightsError, ModelError: from reading it.
    """
    import cyclemlp

    given = args.model_or_file
    if given is not None and args.model is not None:
        raise ConfigError(f"both {given!r} and --model {args.model} are named; give one model")
    if given is not None and (Path(given).exists() or not _is_model_name(given)):
        for option in ("weights", "pretrained", "layout", "override"):
            if getattr(args, option):
                raise ConfigError(
                    f"--{option.replace('_', '-')} goes with --model NAME; {given!r} is read as a file or folder that "
                    "knows these things itself"
                )
        return cyclemlp.load_model(given)
    name = given or args.model
    if name is None:
        raise ConfigError(
            "no model is named; give a run folder or a file, or --model NAME with --weights FILE"
        )
    if bool(args.weights) == bool(args.pretrained):
        raise ConfigError(f"{name} needs weights: give either --weights FILE or --pretrained")
    overrides = model_overrides(args.override)
    if args.pretrained:
        resolve_pretrained(args, name)
        return cyclemlp.create_model(name, pretrained=args.pretrained, **overrides)
    return model_with_weights(name, args.weights, args.layout, overrides)


def open_classifier(args: argparse.Namespace) -> tuple[Any, Callable[[Any], Any], str]:
    """The model that the model and runtime arguments name, in Paddle or, exported, in a runtime.

    Returns:
        What has its `metadata`; a function from a batch to logits; and what it computes on, in words.

    Raises:
        ConfigError: as `open_model`; runtime arguments for a model that is not exported, or others for one that is.
        ExportError, MissingDependencyError: from `load_exported`.
    """
    from cyclemlp.deploy import is_exported, load_exported
    from cyclemlp.evaluation import as_callable

    given = args.model_or_file
    if args.model is None and given is not None and is_exported(given):
        for option in ("weights", "pretrained", "layout", "device", "override"):
            if getattr(args, option):
                raise ConfigError(f"--{option} is not for an exported model such as {given}")
        exported = load_exported(given, args.runtime, args.precision, args.threads)
        return exported, exported.logits, f"{exported.runtime} in {exported.precision}"
    for option in ("runtime", "precision", "threads"):
        if getattr(args, option) is not None:
            raise ConfigError(
                f"--{option} is for a model that `cyclemlp export` wrote; export {given or args.model} first"
            )
    device = choose_device(args.device)
    model = open_model(args)
    return model, as_callable(model), device


def open_loader(
    args: argparse.Namespace, model: Any, source: Source, transform: Transform, device: str, **more: Any
) -> Loader:
    """The images of a source for a model that is only evaluated, by `--batch-size` and `--workers`.

    Args:
        model: in Paddle or exported, as `open_classifier` gives it.
        device: what it computes on, likewise.
        more: further arguments of `build_loader`.
    """
    from cyclemlp.data import build_loader
    from cyclemlp.deploy import ExportedModel

    return build_loader(
        source,
        transform,
        batch_size=args.batch_size,
        num_workers=choose_workers(args.workers, source, device),
        tensors=not isinstance(model, ExportedModel),
        **more,
    )


def model_with_weights(
    name: str, path: Path, layout: str | None, overrides: Mapping[str, Any] | None = None
) -> Any:
    """A model for use as it is: with the file's number of classes, and nothing left as initialised."""
    import cyclemlp
    from cyclemlp.network import canonical_name
    from cyclemlp.weights import read_weights

    file = read_weights(path, layout=layout)
    if file.metadata:  # ours: it knows its preprocessing and classes too
        if file.metadata.get("model") != canonical_name(name):
            raise ConfigError(f"{file.path} holds a {file.metadata.get('model')}, not a {name}")
        if overrides:
            raise ConfigError(
                f"--override is for weights that do not know their architecture; {file.path} does"
            )
        return cyclemlp.load_model(path)
    head = file.tensors.get("head.bias")
    known: dict[str, Any] = {} if head is None else {"num_classes": len(head)}
    model = cyclemlp.create_model(name, **{**known, **(overrides or {})})
    report = cyclemlp.load_weights(model, file)
    if report.reinitialised or report.adapted or report.new:
        raise WeightsError(f"{file.path} does not hold all of a {name} for use as it is:\n  {report}")
    return model


def _is_model_name(text: str) -> bool:
    import cyclemlp
    from cyclemlp.network import canonical_name

    return canonical_name(text) in cyclemlp.list_models()


def model_class_count(model: Any) -> int:
    """Number of the model's classes, exported or not. Raises ModelError if it has no head."""
    from cyclemlp.deploy import ExportedModel

    if isinstance(model, ExportedModel):
        if model.metadata.num_classes is None:
            raise ModelError(
                f"{model.path} was exported without a classification head (task: {model.metadata.task}); "
                "segmenters and detectors are for `cyclemlp seg` and `cyclemlp det`, `cyclemlp serve` and "
                "cyclemlp.Predictor"
            )
        return model.metadata.num_classes
    classes = int(model.config.num_classes)
    if classes == 0 or model.config.features_only:
        raise ModelError("this model has no classification head (num_classes=0 or features_only)")
    return classes


def model_class_names(model: Any, given: str | None) -> list[str]:
    """Names for people: those of `--classes`, else the model's own, else ImageNet's for 1000 classes, else numbers.

    Raises:
        ConfigError: `--classes` names another number of classes than the model has.
    """
    from cyclemlp.data import imagenet_classes, open_class_names

    count = model_class_count(model)
    names = (
        open_class_names(given) or model.metadata.classes or (imagenet_classes() if count == 1000 else None)
    )
    if names is None:
        return [str(index) for index in range(count)]
    if len(names) != count:
        raise ConfigError(
            f"{given or 'the model file'} names {counted(len(names), 'class')} and the model has {count}"
        )
    return list(names)


def model_thresholds(model: Any, given: float | None = None) -> np.ndarray | None:
    """Of a model of several labels an image, from which probability on each class counts as a label, [K]; else None.

    Args:
        given: `--threshold`, for all classes in place of the model's own.

    Raises:
        ConfigError: it is no probability, or the model gives one class an image.
    """
    from cyclemlp.evaluation.multilabel.measures import as_thresholds
    from cyclemlp.metadata import MULTI_LABEL

    if model.metadata.task != MULTI_LABEL:
        if given is not None:
            raise ConfigError(
                f"--threshold is {given:g}; it is for models of several labels an image, and this one gives one class"
            )
        return None
    if given is not None and not 0 <= given <= 1:
        raise ConfigError(f"--threshold is {given:g}; give a probability from 0 to 1")
    return as_thresholds(model.metadata.thresholds if given is None else given, model_class_count(model))


def require_one_class(model: Any, command: str) -> None:
    """Raise ModelError for a model of several labels an image, of which a command's figures say nothing."""
    if model_thresholds(model) is not None:
        raise ModelError(
            f"{command} counts right classes, one an image, and this model gives an image any number of labels; use "
            "`cyclemlp eval`"
        )


def open_labelled_source(
    model: Any,
    data: str | None,
    list_path: Path | None = None,
    *,
    mode: str = "val",
    class_map: str | None = None,
) -> Source:
    """Images whose labels are the model's classes.

    They are paired by name where both know names, see `pair_classes`.

    Raises:
        DataError: the labels cannot be the model's.
    """
    from cyclemlp.data import ListFile, open_source, pair_classes

    count = model_class_count(model)
    own = model.metadata.classes
    source = open_source(
        data,
        list_path,
        mode=mode,
        num_classes=count,
        class_map=class_map,
        names=own,
        multi_label=model_thresholds(model) is not None,
    )
    place = list_path or data
    way_out = "choose a model trained on these classes"
    if data != "digits":
        way_out += ", or give --class-map FILE with a line `name number` a class"
    if source.num_classes is None:
        raise DataError(f"{place}: the images have no labels; a list needs lines `name label`")
    paired = pair_classes(
        source, own, count, what=f"the images of {place}", whose="the model", way_out=way_out
    )
    if (
        isinstance(source, ListFile)
        and source.classes is None
        and (highest := source.highest_label()) < count - 1
    ):
        warnings.warn(
            f"{source.list_path}: the labels go up to {highest} only, and the model has {counted(count, 'class')}; the "
            "figures are right if these are its classes, in its order",
            stacklevel=2,
        )
    return paired


# ---- messages and results

#: The way out of a prediction that ends at an image.
SKIP_BAD = "--skip-bad leaves out images that cannot be read"


def message(text: str) -> None:
    """A line on stderr, above a progress bar if one is there."""
    from tqdm import tqdm

    # A bar is written to the same stream, see `cyclemlp.report.progress`.
    tqdm.write(line_of(text), file=raw_stream(sys.stderr))


def print_json(value: Any, indent: int | None = None) -> None:
    """JSON on stdout."""
    print(json_text(value, indent))


def pairs_text(facts: dict[str, Any], indent: str = "") -> str:
    """Nested facts as indented `name: value` lines."""
    lines = []
    for name, value in facts.items():
        if isinstance(value, dict):
            lines += [f"{indent}{printable(str(name), lines=False)}:", pairs_text(value, indent + "  ")]
        else:
            lines.append(f"{indent}{printable(str(name), lines=False)}: {_value_text(value)}")
    return "\n".join(lines)


def _value_text(value: Any) -> str:
    if value is None or value == []:
        return "–"
    if isinstance(value, list | tuple):
        shown = [_value_text(v) for v in value[:12]]
        return ", ".join(shown) + (f", … ({len(value)} in all)" if len(value) > 12 else "")
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) and value > 9999 else printable(str(value), lines=False)


@contextlib.contextmanager
def plain_warnings(command: str) -> Iterator[None]:
    """Within it, a warning is one line on stderr: `cyclemlp eval: warning: …`, without file and line of our code."""

    def show(message: Warning | str, category: type[Warning], *rest: Any, **named: Any) -> None:
        print(f"cyclemlp {command}: warning: {line_of(message)}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.showwarning = show  # catch_warnings puts the old one back
        warnings.filterwarnings(
            "ignore", message="No ccache found"
        )  # Paddle's, on import; we compile nothing
        yield


#: Command → what its configurations are called, and keys that only they have.
CONFIG_KINDS = {
    "train": ("a recipe of classification", {"amp", "augment", "data", "distillation", "ema", "schedule"}),
    "seg": (
        "a configuration of segmentation",
        {"_base_", "iters", "lr_scheduler", "train_dataset", "val_dataset"},
    ),
    "det": (
        "a configuration of detection",
        {"_BASE_", "architecture", "EvalDataset", "TrainDataset", "TrainReader"},
    ),
}


def config_file(path: Path, command: str) -> Path:
    """The file that `--config` means; says it where that is one of the installed package.

    Args:
        path: as it was typed, or of a run.
        command: "train", "seg" or "det".

    Raises:
        ConfigError: there is none, or it is for another command.
    """
    found = find_config(path)
    if found != path:
        message(f"{path}: read from the installed package, {found}")
    keys = top_keys(found)
    for other, (title, own) in CONFIG_KINDS.items():
        if other != command and keys & own and not keys & CONFIG_KINDS[command][1]:
            raise ConfigError(
                f"{path}: is {title}, by its key {min(keys & own)}; use `cyclemlp {other}` with it"
            )
    return found


def output_folder(path: Path | None) -> Path | None:
    """`--output`, made now rather than after hours of work.

    Raises:
        ConfigError: it cannot be made or written to.
    """
    if path is None:
        return None
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--output {path} cannot be made: {error.strerror}") from error
    if not os.access(path, os.W_OK):
        raise ConfigError(f"--output {path} cannot be written to")
    return path


def refuse_existing(paths: Iterable[Path]) -> None:
    """Raise ConfigError for the first file that is there already."""
    for path in paths:
        if path.exists():
            raise ConfigError(f"{path} is there already; choose another --output, or --force to replace it")


def provenance(
    args: argparse.Namespace, model: Any, preprocessing: Preprocessing, device: str
) -> dict[str, Any]:
    """What a result was made with, as JSON values."""
    from cyclemlp._version import __version__
    from cyclemlp.deploy import ExportedModel
    from cyclemlp.run import find_weights

    weights = str(args.weights or args.pretrained or args.model_or_file)
    if Path(weights).is_dir() and not isinstance(model, ExportedModel):
        weights = str(find_weights(Path(weights)))
    return {
        "model": model.metadata.model,
        "weights": weights,
        "data": args.data,
        "list": None if args.list is None else str(args.list),
        "class_map": args.class_map,
        "preprocessing": preprocessing.to_dict(),
        "batch_size": args.batch_size,
        "device": device,
        "version": __version__,
    }
